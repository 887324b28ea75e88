use aya::programs::Xdp;
use scanguard::sensor::{Sensor as _, gate::GateMode, settings::Settings, test_run};
use scanguard_tests::{
    frames::{V4, tcp, v4, v4_with},
    program,
};
use std::{os::fd::AsFd as _, time::Duration};
fn main() -> anyhow::Result<()> {
    let rounds: usize = std::env::args().nth(1).map_or(15, |a| a.parse().unwrap());
    let n = 100_000;
    let mut c = aya::Ebpf::load_file("/tmp/c/all.o")?;
    for p in ["c_parse", "c_syn_known", "c_syn_new", "c_dropped", "c_dropped16"] {
        let x: &mut Xdp = c.program_mut(p).unwrap().try_into()?;
        x.load()?;
    }
    {
        let mut h: aya::maps::HashMap<_, u32, u64> =
            aya::maps::HashMap::try_from(c.map_mut("hash").unwrap())?;
        h.insert(u32::from_ne_bytes([192, 0, 2, 7]), 1, 0)?;
        let mut h: aya::maps::HashMap<_, [u8; 16], [u64; 4]> =
            aya::maps::HashMap::try_from(c.map_mut("hash16").unwrap())?;
        h.insert([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 7], [1; 4], 0)?;
    }
    let syn = v4(6, &tcp(2, 443));
    let ack = v4(6, &tcp(0x10, 443));
    let data = v4(6, &[tcp(0x18, 443), vec![0; 100]].concat());
    let mut a = program::load(&Settings::default())?;
    a.kernel.set_local(&scanguard::network::Local {
        prefixes: [
            ("198.51.100.9".parse()?, 32u8),
            ("127.0.0.0".parse()?, 8),
            ("fe80::1".parse()?, 128),
            ("10.0.0.1".parse()?, 32),
        ]
        .into(),
        forwards: false,
    })?;
    let mut b = program::load(&Settings::default())?;
    b.kernel.set_gate(GateMode::Enforce, false)?;
    b.kernel.ban("192.0.2.7/32".parse()?, Some(Duration::from_secs(3600)), true)?;
    let mut nw = program::load(&Settings::default())?;
    let empty = program::empty()?;
    let mut rows: std::collections::BTreeMap<&str, Vec<f64>> = Default::default();
    nw.kernel.set_free_entries(2048)?;
    let mut base = 0u32;
    for _ in 0..rounds {
        let mut put = |k, v: f64| rows.entry(k).or_default().push(v);
        let run = |p: &str, f: &[u8]| -> anyhow::Result<f64> {
            let x: &Xdp = c.program(p).unwrap().try_into()?;
            Ok(test_run::run(x.fd()?.as_fd(), f, n)?.duration.as_nanos() as f64)
        };
        put("0 empty", test_run::run(empty.as_fd(), &ack, n)?.duration.as_nanos() as f64);
        put("1 c_parse", run("c_parse", &ack)?);
        put("1 established ack", a.run(&ack, n)?.duration.as_nanos() as f64);
        put("1 established data", a.run(&data, n)?.duration.as_nanos() as f64);
        put("2 c_syn_known", run("c_syn_known", &syn)?);
        put("2 syn_known", a.run(&syn, n)?.duration.as_nanos() as f64);
        put("3 c_syn_new", run("c_syn_new", &syn)?);
        base += 20_000;
        let frames: Vec<_> = (0..20_000u32)
            .map(|s| {
                v4_with(
                    &V4 {
                        protocol: 6,
                        source: Some(std::net::Ipv4Addr::from(0x0a00_0000 + base + s)),
                        ..V4::default()
                    },
                    &tcp(2, 443),
                )
            })
            .collect();
        let mut once = |same: bool| -> anyhow::Result<f64> {
            let mut t = 0.0;
            for f in &frames {
                t += nw.run(if same { &syn } else { f }, 1)?.duration.as_nanos() as f64;
            }
            Ok(t / frames.len() as f64)
        };
        let (known, new) = (once(true)?, once(false)?);
        let hot = nw.run(&syn, n)?.duration.as_nanos() as f64;
        put("3 syn_new", new - known + hot);
        put("4 c_dropped", run("c_dropped", &syn)?);
        put("4 c_dropped16", run("c_dropped16", &syn)?);
        put("4 dropped", b.run(&syn, n)?.duration.as_nanos() as f64);
    }
    for (k, mut v) in rows {
        v.sort_by(f64::total_cmp);
        println!("{k:<20} min {:>6.0} q1 {:>6.0} median {:>6.0}", v[0], v[v.len() / 4], v[v.len() / 2]);
    }
    Ok(())
}
