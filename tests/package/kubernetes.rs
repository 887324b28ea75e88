//! The DaemonSet is what the agent needs, and no more: compared with the agent's own settings and with the unit.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Failed, Trial};
use scanguard::config::Config;
use scanguard_tests::fixtures::scratch;
use serde::Deserialize as _;
use serde_json::{Value, json};

const MANIFEST: &str = include_str!("../../deploy/kubernetes/daemonset.yaml");
const UNIT: &str = include_str!("../../deploy/systemd/scanguard.service");
const CONTAINERFILE: &str = include_str!("../../deploy/container/Containerfile");

/// Needs no root.
pub(crate) fn trial() -> Trial {
    Trial::test("kubernetes: the DaemonSet gives what the agent needs, and no more", || {
        fits().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn documents() -> Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(MANIFEST);
    documents.map(|document| Value::deserialize(document).context("YAML")).collect()
}

fn of_kind<'d>(documents: &'d [Value], kind: &str) -> Result<&'d Value> {
    documents.iter().find(|document| document["kind"] == kind).with_context(|| format!("no {kind}"))
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

fn fits() -> Result<()> {
    let documents = documents()?;
    let map = of_kind(&documents, "ConfigMap")?;
    let text = map["data"]["scanguard.toml"].as_str().context("the configuration")?;
    let config = Config::load(&scratch::file(".toml", text)?)?;

    let set = of_kind(&documents, "DaemonSet")?;
    ensure!(
        set["spec"]["selector"]["matchLabels"] == set["spec"]["template"]["metadata"]["labels"],
        "labels"
    );
    let pod = &set["spec"]["template"]["spec"];
    ensure!(pod["hostNetwork"] == true, "not the node's network");
    let [container] = list(&pod["containers"])[..] else { anyhow::bail!("one container") };

    let security = &container["securityContext"];
    for setting in ["privileged", "allowPrivilegeEscalation"] {
        ensure!(security[setting] == false, "{setting}");
    }
    ensure!(security["readOnlyRootFilesystem"] == true, "a writable root");
    ensure!(security["capabilities"]["drop"] == json!(["ALL"]), "capabilities are not dropped");
    let allowed =
        UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).context("a set")?;
    // There root starts the agent, which changes its user by itself.
    let allowed: Vec<_> = allowed.split(' ').chain(["CAP_SETUID", "CAP_SETGID"]).collect();
    let added = list(&security["capabilities"]["add"]);
    for capability in &added {
        let name = format!("CAP_{}", capability.as_str().context("a name")?);
        ensure!(allowed.contains(&name.as_str()), "{name} is more than the unit gives");
    }
    for needed in ["BPF", "PERFMON", "NET_ADMIN", "SETUID", "SETGID", "CHOWN"] {
        ensure!(added.contains(&&json!(needed)), "{needed} is missing");
        ensure!(
            CONTAINERFILE.contains(&format!("CAP_{needed}")),
            "the Containerfile does not say CAP_{needed}"
        );
    }

    let [port] = list(&container["ports"])[..] else { anyhow::bail!("one port") };
    // Prometheus comes from another pod, without a login.
    ensure!(!config.metrics.listen.ip().is_loopback(), "nobody reaches it");
    ensure!(config.metrics.web.has_public_metrics(), "Prometheus is refused");
    let listen = config.metrics.listen.port();
    ensure!(port["containerPort"] == listen && port["hostPort"] == listen, "the agent listens at {listen}");
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        ensure!(container[probe]["httpGet"]["path"] == path, "{probe}");
        ensure!(container[probe]["httpGet"]["port"] == port["name"], "{probe}");
    }
    ensure!(container["resources"]["limits"]["memory"].is_string(), "no limit");

    let volumes: Vec<_> = list(&pod["volumes"]).into_iter().map(|volume| &volume["name"]).collect();
    let mounts = list(&container["volumeMounts"]);
    ensure!(mounts.iter().all(|mount| volumes.contains(&&mount["name"])), "a mount without its volume");
    let places: Vec<_> = mounts.iter().filter_map(|mount| mount["mountPath"].as_str()).collect();
    let (socket, state, pin) = (&config.control.socket, &config.response.state, &config.sensor.pin);
    for (what, path) in [("socket", socket), ("state", state), ("pins", pin)] {
        ensure!(
            places.iter().any(|place| path.starts_with(place)),
            "{what}: {} is in no volume",
            path.display()
        );
    }
    let configuration = std::path::Path::new(scanguard::config::DEFAULT_PATH);
    ensure!(places.iter().any(|place| configuration.starts_with(place)), "the configuration is in no volume");
    Ok(())
}
