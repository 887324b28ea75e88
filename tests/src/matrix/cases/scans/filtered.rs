//! Scans of a host whose packet filter drops what comes to all but two ports. Services listen behind it, and none of
//! them answers.

use anyhow::Result;

use super::{Case, scan, something_to_receive};
use crate::fixtures::{clients::serve, filter, stage::Stage};

/// The ports that the filter lets through.
const OPEN: [u16; 2] = [22, 80];
/// Ports behind the filter at which somebody listens.
const BEHIND: [u16; 10] = [3306, 5000, 5432, 6379, 8080, 8443, 9090, 9200, 11_211, 27_017];

const fn filtered(name: &'static str, packets: u32) -> Case {
    scan("behind a packet filter that drops", name).sends(packets).after(filter)
}

pub(super) const CASES: &[Case] = &[
    filtered("nmap -n -Pn -sS --max-retries 1 -p 1-1000 {victim}", 1_000),
    filtered("nmap -n -Pn -sT --max-retries 1 -p 1-200 {victim}", 200),
    filtered("nmap -n -Pn -sS -p 3306,5432,6379,8080,9200 {victim}", 5),
    filtered("nmap -n -Pn -sT -p 3306,5432,6379,8080,9200 {victim}", 5),
    filtered("nmap -n -Pn -sS -p 3306,5000,5432,6379,8080,8443,9090,9200,11211,27017 {victim}", 10),
    filtered("nmap -n -Pn -sT -p 3306,5000,5432,6379,8080,8443,9090,9200,11211,27017 {victim}", 10),
    filtered("nmap -n -Pn -sS -p 22,80,3306,5432,6379,8080,9200,11211,27017 {victim}", 9),
    filtered("nmap -n -Pn -sT -p 22,80,3306,5432,6379,8080,9200,11211,27017 {victim}", 9),
    filtered("nmap -n -Pn -sS --max-retries 1 -p 21,23,25,110,139,445,1433,3389,5900,8443 {victim}", 10),
    filtered("nmap -n -Pn -sT --max-retries 1 -p 21,23,25,110,139,445,1433,3389,5900,8443 {victim}", 10),
    filtered("nmap -n -Pn -sU --max-retries 1 -p 100-160 {victim}", 60),
    filtered(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 100 --wait 1 \
         -p3306,5432,6379,8080,9200 {victim}",
        5,
    ),
    filtered(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 1000 --wait 1 -p1-300 {victim}",
        300,
    ),
    filtered("hping3 -q -8 3306,5432,6379,8080,9200 -S {victim}", 5).may_fail(),
    filtered("bash {dir}/connects.sh {victim} 3306 5000 5432 6379 8080 8443 9090 9200 11211 27017", 10),
    filtered("python3 {dir}/connects.py {victim} 3306 5000 5432 6379 8080 8443 9090 9200 11211 27017", 10),
    filtered("python3 {dir}/connects.py {victim} 1-50", 50),
    filtered("nc -z -w 1 {victim} 5995-6005", 11).may_fail(),
];

fn filter(stage: &mut Stage<'_>) -> Result<()> {
    super::tools::files(stage)?;
    let services = serve(&stage.lab.victim, OPEN.into_iter().chain(BEHIND))?;
    stage.keep(services);
    something_to_receive(stage)?;
    filter::drop_all_but(&stage.lab.victim, &OPEN)
}
