//! The dashboard and the alerts ask for metrics that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use scanguard::fleet::role::RoleMetrics;
use serde_json::Value;

use crate::metrics::metrics;

/// The series that there are, with the labels that ScanGuard gives them.
fn series() -> BTreeMap<String, Vec<String>> {
    let mut described = metrics().described();
    described.extend(RoleMetrics::new().unwrap().described().iter().cloned());
    let named = described.into_iter().flat_map(|metric| {
        metric.series().into_iter().map(move |name| (name, metric.labels.clone())).collect::<Vec<_>>()
    });
    named.collect()
}

/// All strings at keys of these names, however deep.
fn strings<'v>(value: &'v Value, keys: &[&str], found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => found.push(text),
                    other => strings(other, keys, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, keys, found)),
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// The names of ScanGuard's metrics in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("scanguard_"))
}

/// The labels of `by (...)` and of selectors.
fn labels(expression: &str) -> BTreeSet<&str> {
    let grouped = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    let selected = expression
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .flat_map(|selector| selector.split("\","))
        .filter_map(|part| part.split(['=', '!']).next());
    grouped
        .flat_map(|list| list.split(','))
        .chain(selected)
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect()
}

/// Errors in expressions: metrics and labels that there are not.
fn wrong(expressions: &[&str]) -> Vec<String> {
    let series = series();
    // Of Prometheus itself, and of its histograms.
    let theirs = ["instance", "job", "le", "alertname"];
    let mut wrong = Vec::new();
    for expression in expressions {
        let named: Vec<_> = names(expression).collect();
        wrong.extend(
            named
                .iter()
                .filter(|name| !series.contains_key(**name))
                .map(|name| format!("{name}: no such metric")),
        );
        for label in labels(expression).into_iter().filter(|label| !theirs.contains(label)) {
            let has = |name: &&str| series.get(*name).is_some_and(|labels| labels.iter().any(|l| l == label));
            if !named.is_empty() && !named.iter().any(has) {
                wrong.push(format!("{label}: no such label in {expression}"));
            }
        }
    }
    wrong
}

#[test]
fn the_dashboards_ask_for_metrics_and_labels_that_there_are() {
    for (file, least) in [("scanguard.json", 30), ("scanguard-fleet.json", 20)] {
        let dashboard: Value = serde_json::from_str(&crate::read(&format!("deploy/grafana/{file}"))).unwrap();
        let mut expressions = Vec::new();
        strings(&dashboard, &["expr", "query"], &mut expressions);
        assert!(expressions.len() > least, "{file}: {expressions:?}");
        assert_eq!(wrong(&expressions), Vec::<String>::new(), "{file}");
    }
}

#[test]
fn the_alerts_ask_for_metrics_and_labels_that_there_are() {
    let rules = crate::read("deploy/prometheus/scanguard.rules.yml");
    let expressions: Vec<_> =
        rules.split("expr:").skip(1).filter_map(|rest| rest.split("labels:").next()).collect();
    assert!(expressions.len() > 10, "{expressions:?}");
    assert_eq!(wrong(&expressions), Vec::<String>::new());
}

#[test]
fn the_alerts_fire_when_they_should_and_are_quiet_when_not() {
    let output = Command::new("promtool")
        .args(["test", "rules"])
        .arg(crate::path("deploy/prometheus/scanguard.rules.test.yml"))
        .output()
        .expect("promtool: cargo xtask setup installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_metric_or_label_that_there_is_not_would_be_noticed() {
    let expressions = ["sum(scanguard_no_such_total)", "sum by (colour) (scanguard_bans)"];
    assert_eq!(wrong(&expressions).len(), 2);
}
