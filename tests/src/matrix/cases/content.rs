//! Scans of what services say: web sites, TLS and DNS, by real tools against nginx and nsd. Each must be found by its
//! own rule.

use super::{Act, Case, Expected, scans::scan, servers};
use crate::fixtures::stage::Stage;

const fn expected(rule: &'static str, technique: &'static str) -> Expected {
    Expected { rule, technique }
}

const AGENT: Expected = expected("scanner_agent", "T1595.002");
const SENSITIVE: Expected = expected("sensitive_paths", "T1595.002");
const ODD: Expected = expected("odd_requests", "T1595.002");
const WORDS: Expected = expected("wordlist_scan", "T1595.003");
const HOSTS: Expected = expected("virtual_host_scan", "T1595.003");
const HELLOS: Expected = expected("tls_enumeration", "T1595.002");
const HELLO: Expected = expected("scanner_tls", "T1595.002");
const NAMES: Expected = expected("dns_enumeration", "T1595.003");
const PROBE: Expected = expected("dns_probe", "T1595.002");

const fn words(name: &'static str, findings: &'static [Expected]) -> Case {
    scan("web: lists of words", name).after(servers::site).with_findings(findings)
}

const fn vulnerabilities(name: &'static str, findings: &'static [Expected]) -> Case {
    scan("web: vulnerabilities and fingerprints", name).after(servers::site).with_findings(findings)
}

const fn hosts(
    name: &'static str,
    site: fn(&mut Stage<'_>) -> anyhow::Result<()>,
    findings: &'static [Expected],
) -> Case {
    scan("web: names of hosts", name).after(site).with_findings(findings)
}

/// A case in which only the server sees the requests.
const fn logged(name: &'static str, findings: &'static [Expected]) -> Case {
    scan("web: over TLS, by nginx's access log", name)
        .after(servers::site)
        .with(servers::LOG)
        .with_findings(findings)
}

const fn tls(name: &'static str, findings: &'static [Expected]) -> Case {
    scan("TLS", name).after(servers::site).with_findings(findings)
}

const fn dns(name: &'static str, findings: &'static [Expected]) -> Case {
    scan("DNS", name).after(servers::zone).with_findings(findings)
}

/// The tool's exit status means nothing.
const fn may_fail(case: Case) -> Case {
    Case { act: Act::CommandThatMayFail, ..case }
}

/// All of them.
pub(super) const CASES: &[Case] = &[
    words("gobuster dir -q -u http://{victim}/ -w {dir}/words", &[AGENT, WORDS]),
    words("gobuster dir -q -a {browser} -u http://{victim}/ -w {dir}/words", &[WORDS]),
    words("gobuster dir -q -a {browser} -t 1 --delay 20ms -u http://{victim}/ -w {dir}/words", &[WORDS]),
    words("gobuster dir -q -a {browser} -x php,html,bak -u http://{victim}/ -w {dir}/words", &[WORDS]),
    words("gobuster dir -q -a {browser} -u http://[{victim6}]/ -w {dir}/words", &[WORDS])
        .after(servers::site_of_all_names),
    words("ffuf -s -u http://{victim}/FUZZ -w {dir}/words", &[AGENT, WORDS]),
    words("ffuf -s -H User-Agent:{browser} -u http://{victim}/FUZZ -w {dir}/words", &[WORDS]),
    words("ffuf -s -H User-Agent:{browser} -mc all -u http://{victim}/item?FUZZ=1 -w {dir}/words", &[WORDS]),
    words("dirb http://{victim}/ {dir}/words -S -r", &[WORDS]),
    words("wfuzz -w {dir}/words --hc 404 http://{victim}/FUZZ", &[AGENT, WORDS]),
    words("wfuzz -H User-Agent:{browser} -w {dir}/words --hc 404 http://{victim}/FUZZ", &[WORDS]),
    words("dirsearch -u http://{victim}/ -w {dir}/words -e php -o {dir}/report --format=plain", &[WORDS]),
    hosts(
        "gobuster vhost -q -u http://{victim}/ --domain shop.test --append-domain -w {dir}/words",
        servers::site,
        &[AGENT, HOSTS],
    ),
    hosts(
        "gobuster vhost -q -a {browser} -u http://{victim}/ --domain shop.test --append-domain -w {dir}/words",
        servers::site,
        &[HOSTS],
    ),
    hosts(
        "ffuf -s -H User-Agent:{browser} -H Host:FUZZ.shop.test -fs 0 -u http://{victim}/ -w {dir}/words",
        servers::site_of_all_names,
        &[HOSTS],
    ),
    vulnerabilities("whatweb --no-errors http://{victim}/", &[AGENT]),
    vulnerabilities("wafw00f http://{victim}/", &[ODD]),
    vulnerabilities("hydra -t 1 -l admin -p word http-get://{victim}/", &[AGENT]),
    vulnerabilities("sqlmap --batch --technique=B -u http://{victim}/item?id=1", &[AGENT]),
    vulnerabilities("sqlmap --batch --random-agent --level=2 -u http://{victim}/item?id=1", &[ODD]),
    vulnerabilities(
        "wapiti -u http://{victim}/ -m exec,file,xss --max-scan-time 15 -f txt -o {dir}/report --no-bugreport",
        &[ODD],
    ),
    // It asks by HEAD, four of which count as one word: of so many as the budget for samples shows, hardly fifty.
    vulnerabilities("nmap -n -Pn -p 80 --script http-enum {victim}", &[AGENT]),
    vulnerabilities(
        "nmap -n -Pn -p 80 --script http-enum --script-args http.useragent=Mozilla/5.0 {victim}",
        &[SENSITIVE],
    ),
    vulnerabilities("nmap -n -Pn -p 80 --script http-vuln-* {victim}", &[AGENT]),
    logged("gobuster dir -q -k -u https://{victim}/ -w {dir}/words", &[AGENT, WORDS]),
    logged("ffuf -s -k -H User-Agent:{browser} -u https://{victim}/FUZZ -w {dir}/words", &[WORDS]),
    logged("dirsearch -u https://{victim}/ -w {dir}/words -e php -o {dir}/report --format=plain", &[WORDS]),
    logged("dirb https://{victim}/ {dir}/words -S -r", &[WORDS]),
    logged(
        "gobuster vhost -q -k -a {browser} -u https://{victim}/ --domain shop.test --append-domain -w {dir}/words",
        &[HOSTS],
    )
    .after(servers::site_that_logs_names),
    logged("sqlmap --batch --random-agent --level=2 -u https://{victim}/item?id=1", &[ODD]),
    tls("sslscan --no-colour {victim}", &[HELLOS]),
    // One kind of hello after another: with all of them tls_enumeration, which covers it, may come first.
    tls(
        "sslscan --no-colour --no-ciphersuites --no-groups --no-fallback --no-renegotiation --no-compression {victim}",
        &[HELLO],
    ),
    tls("nmap -n -Pn -sV --version-intensity 9 -p 443 {victim}", &[HELLO]),
    tls("nmap -n -Pn -p 443 --script ssl-enum-ciphers {victim}", &[HELLOS]),
    may_fail(tls("testssl --quiet --color 0 --warnings off -p {victim}:443", &[HELLOS])),
    may_fail(tls("testssl --quiet --color 0 --warnings off {victim}:443", &[HELLOS])).slow(),
    dns("gobuster dns -q -d shop.test -r {victim}:53 -w {dir}/words", &[NAMES]),
    dns("dnsrecon -d shop.test -n {victim} -t brt -D {dir}/words", &[NAMES]),
    may_fail(dns(
        "dnsenum --dnsserver {victim} --noreverse -p 0 -s 0 -t 2 -f {dir}/words shop.test",
        &[NAMES],
    )),
    may_fail(dns("dnsrecon -d shop.test -n {victim} -t axfr", &[PROBE])),
    dns("nmap -n -Pn -sU -p 53 --script dns-nsid {victim}", &[PROBE]),
    dns("dig +tries=1 @{victim} CH TXT version.bind", &[PROBE]),
    dns("dig +tries=1 @{victim} AXFR shop.test", &[PROBE]),
    dns("dig +tries=1 @{victim} ANY shop.test ANY www.shop.test ANY mail.shop.test", &[PROBE]),
];
