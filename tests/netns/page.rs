//! The page in a real browser, over a real agent and real scans.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::{Agent, LISTEN, give},
    browser::Browser,
    lab::{Lab, PATIENCE, SCANNER, VICTIM, run, wait_for},
    scenario::Scenario,
};
use serde_json::json;

use crate::{PICTURES, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("page: a scan appears in a browser without a reload, as text, in light and dark", watched),
        trial("page: a browser with the token can ban, and one without it cannot", ordered),
    ]
}

/// Would run, were what it is in taken for markup.
const MARKUP: &str = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>";

fn scan(lab: &Lab, arguments: &str) -> Result<()> {
    run(lab.scanner.command("nmap").args(arguments.split(' ')).arg(VICTIM)).map(drop)
}

fn open<'n>(lab: &'n Lab) -> Result<Browser<'n>> {
    let browser = Browser::start(&lab.victim)?;
    browser.open(&format!("http://{LISTEN}/"))?;
    browser.sees("document.getElementById('connection').textContent === 'Live'")?;
    Ok(browser)
}

fn watched() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let lab = &scenario.lab;
    let mut agent = scenario.start()?;
    let browser = open(lab)?;
    browser.sees("!document.getElementById('findings-empty').hidden")?;
    browser.sees("document.getElementById('interfaces').innerText.includes('edge0')")?;
    browser.run("window.reloaded = false")?;

    scan(lab, "-n -Pn -sS -p 1-300 --max-retries 1")?;
    let row = format!(
        "[...document.querySelectorAll('#findings-rows tr')].some((row) => row.innerText.includes('vertical_scan') \
         && row.innerText.includes('{SCANNER}'))"
    );
    browser.sees(&row)?;
    browser.sees("window.reloaded === false")?;
    browser.sees("document.getElementById('news').textContent.includes('ew finding')")?;
    browser.sees(&format!("document.getElementById('sources-rows').innerText.includes('{SCANNER}')"))?;
    browser.sees("document.getElementById('probes-by').innerText.includes('syn')")?;

    // Texts of an operator, and the worst texts of a source: every text of a finding and of a source is markup.
    agent.order(&["ban", "203.0.113.7", "--for", "1h", "--reason", MARKUP])?;
    browser.sees("document.getElementById('bans-rows').textContent.includes('<script>window.pwned=1')")?;
    let forged = format!(
        "const markup = {};
         const tainted = (item) => JSON.parse(JSON.stringify(item, (key, value) => typeof value === 'string' && !key.endsWith('_seen') ? markup : value));
         const findings = {{ open: 1, findings: state.findings.findings.slice(0, 1).map(tainted) }};
         TAKE.findings(findings);
         TAKE.sources(state.sources.slice(0, 1).map(tainted));
         return ['findings', 'sources'].map((name) => document.getElementById(name + '-rows').textContent.includes(markup));",
        json!(MARKUP)
    );
    ensure!(browser.run(&forged)? == json!([true, true]), "markup is not shown as text");
    browser.sees("document.querySelectorAll('main img, main script').length === 0")?;
    browser.sees("window.pwned === undefined")?;
    // This agent only observes: what the banned send is not counted either.
    browser.sees("document.getElementById('bans-rows').textContent.includes('nothing')")?;
    // A clock that was set back: the charts go on with what the agent has.
    browser
        .run("state.samples = [[9e9, 0, 0, 0, 0, 0, 0]]; addSample([1, 0, 0, 0, 0, 0, 0]); return null")?;
    browser.sees("state.samples.at(-1)?.[0] !== 9e9")?;
    // And the true finding again, with a browser that has received nothing yet.
    browser.open(&format!("http://{LISTEN}/"))?;
    browser.sees(&row)?;
    // The policy itself stops what the page would not do.
    let inline = "const script = document.createElement('script'); try { script.textContent = 'window.pwned = 1' } \
                  catch { return 'trusted types' } document.body.append(script); return 'none'";
    ensure!(browser.run(inline)? == "trusted types", "text can become a script");

    browser.sees("[...document.querySelectorAll('svg .line')].every((line) => line.getAttribute('d'))")?;
    browser.sees("document.querySelector('svg').getAttribute('aria-label').includes('highest')")?;
    let complaints = browser.complaints()?;
    let ours =
        complaints.iter().filter(|said| !said.contains("TrustedScript") && !said.contains("Trusted Type"));
    ensure!(ours.clone().next().is_none(), "on the console: {:#?}", ours.collect::<Vec<_>>());
    accessible(&browser)?;

    let pictures = std::env::var_os(PICTURES);
    if pictures.is_some() {
        liven(lab, &agent)?;
    }
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.devtools("Emulation.setEmulatedMedia", &feature)?;
        backgrounds.push(legible(&browser)?);
        let picture = browser.picture()?;
        ensure!(
            picture.starts_with(b"\x89PNG") && picture.len() > 20_000,
            "{scheme}: {} bytes",
            picture.len()
        );
        if let Some(directory) = &pictures {
            fs::write(Path::new(directory).join(format!("page-{scheme}.png")), picture)?;
        }
    }
    ensure!(backgrounds[0] != backgrounds[1], "light and dark are one: {backgrounds:?}");

    agent.end()?;
    browser.sees("document.getElementById('connection').textContent.startsWith('Not connected')")
}

/// Scans for a picture that has something to show.
fn liven(lab: &Lab, agent: &Agent<'_>) -> Result<()> {
    agent.order(&["ban", "198.51.100.0/24", "--for", "24h", "--reason", "brute force at another site"])?;
    agent.order(&["unban", "203.0.113.7"])?;
    for arguments in
        ["-n -Pn -sX -p 1-200 --max-retries 1", "-n -Pn -sU -p 60-200 --max-retries 1 --max-rate 20"]
    {
        thread::sleep(Duration::from_secs(20));
        scan(lab, arguments)?;
    }
    for _ in 0..6 {
        thread::sleep(Duration::from_secs(12));
        scan(lab, "-n -Pn -sS -p 1-1500 --max-rate 150 --max-retries 0")?;
    }
    Ok(())
}

/// Accessibility, as far as the page's elements show it: names, captions, headings, landmarks.
fn accessible(browser: &Browser<'_>) -> Result<()> {
    let wrong = browser.run(
        "const wrong = [];
         for (const table of document.querySelectorAll('table')) {
           if (!table.caption?.textContent.trim()) wrong.push('a table without a caption');
           if (![...table.querySelectorAll('thead th')].every((th) => th.scope === 'col')) wrong.push(table.caption.textContent);
         }
         for (const row of document.querySelectorAll('tbody tr'))
           if (row.cells[0].tagName !== 'TH' || row.cells[0].scope !== 'row') wrong.push(row.innerText);
         for (const picture of document.querySelectorAll('svg[role=img]'))
           if (!picture.getAttribute('aria-label')) wrong.push('a chart without words');
         if (document.querySelectorAll('h1').length !== 1 || document.documentElement.lang !== 'en') wrong.push('h1, lang');
         for (const landmark of ['header', 'main', 'footer']) if (!document.querySelector(landmark)) wrong.push(landmark);
         if (document.getElementById('news').getAttribute('aria-live') !== 'polite') wrong.push('news');
         const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
         if (new Set(ids).size !== ids.length) wrong.push('an id is there twice');
         return wrong;",
    )?;
    ensure!(wrong == json!([]), "{wrong:#}");
    // As the browser tells it to a screen reader.
    let tree = browser.devtools("Accessibility.getFullAXTree", &json!({}))?;
    let nodes = tree["nodes"].as_array().context("a tree")?;
    let mut seen = 0;
    for node in nodes.iter().filter(|node| node["ignored"] == false) {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        let wants_name =
            ["button", "link", "searchbox", "textbox", "combobox", "table", "heading", "image", "region"];
        if wants_name.contains(&role) {
            let name = node["name"]["value"].as_str().unwrap_or_default();
            ensure!(!name.trim().is_empty(), "a {role} without a name: {node:#}");
            seen += 1;
        }
    }
    ensure!(seen > 15, "only {seen} things have a name");
    Ok(())
}

/// Every text stands out from what is behind it as WCAG 2.2, 1.4.3, wants; the colour of the page.
fn legible(browser: &Browser<'_>) -> Result<String> {
    let found = browser.run(
        "const rgb = (text) => text.match(/[0-9.]+/g).map(Number);
         const light = (color) => {
           const [r, g, b] = rgb(color).slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
           return 0.2126 * r + 0.7152 * g + 0.0722 * b;
         };
         const behind = (node) => {
           for (; node; node = node.parentElement) {
             const color = getComputedStyle(node).backgroundColor;
             if ((rgb(color)[3] ?? 1) > 0) return color;
           }
         };
         const weak = new Set();
         for (const node of document.querySelectorAll('body *')) {
           if (![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
           // Rows that have just come shine for a moment.
           if (node.getAnimations().length > 0) continue;
           const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
           const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
           if (contrast < 4.5) weak.add(`${node.tagName} ${node.className} ${contrast.toFixed(2)}`);
         }
         return { page: behind(document.body), weak: [...weak] };",
    )?;
    ensure!(found["weak"] == json!([]), "hard to read: {:#}", found["weak"]);
    found["page"].as_str().map(str::to_owned).context("a colour")
}

fn ordered() -> Result<()> {
    const TOKEN: &str = "a token of the test!";
    let scenario = Scenario::defaults()?;
    let file = scenario.lab.victim.directory().join("token");
    let token = TOKEN.replace(' ', "-");
    fs::write(&file, &token)?;
    // Else only the start could read it, not the reload.
    give(&file)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    scenario.configure(&format!("[page]\nadmin_token_file = \"{}\"\n", file.display()))?;
    scenario.run(|lab, agent| {
        let browser = open(lab)?;
        browser.sees("!document.getElementById('orders').hidden")?;
        let order = |token: &str, order: &str| {
            browser.run(&format!(
                "document.getElementById('net').value = '192.0.2.7'; document.getElementById('token').value = '{token}';
                 document.querySelector('#order-form button[value={order}]').click()"
            ))
        };
        let says = |text: &str| {
            browser.sees(&format!("document.getElementById('order-said').textContent.includes('{text}')"))
        };
        order("wrong", "ban")?;
        says("not the admin token")?;
        ensure!(agent.json(&["bans"])?["bans"] == json!([]), "banned by a wrong token");
        order(&token, "ban")?;
        says("192.0.2.7")?;
        browser.sees("document.getElementById('bans-rows').innerText.includes('from the page')")?;
        ensure!(agent.json(&["bans"])?["bans"][0]["by"] == "hand");
        browser.run("document.querySelector('#bans-rows button').click()")?;
        browser.sees("document.activeElement.id === 'net' && document.activeElement.value === '192.0.2.7'")?;
        order(&token, "unban")?;
        browser.sees("!document.getElementById('bans-empty').hidden")?;
        ensure!(agent.metrics()?.get("scanguard_page_orders_refused_total{reason=\"wrong_token\"}") == 1.0);
        // Another token is taken by a reload, within the sandbox.
        fs::write(&file, "another-token-of-the-test")?;
        agent.process.signal(libc::SIGHUP);
        wait_for("the reload", PATIENCE, || {
            let reloads = agent.metrics().ok()?.get("scanguard_config_reloads_total{outcome=\"success\"}");
            (reloads == 1.0).then_some(())
        })?;
        order(&token, "unban")?;
        says("not the admin token")
    })
}
