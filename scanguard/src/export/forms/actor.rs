//! Who asks others, in all forms.

use scanguard_common::actor::{Kind, marks};
use serde::Serialize;
use serde_json::{Value, json};

use super::put;
use crate::outbound::{
    Actor,
    container::Container,
    identity::{Parent, Running},
};

/// `type_id` of a file that is a regular one.
const REGULAR: u32 = 1;

/// An actor in our own JSON; docs/findings.md describes it.
#[derive(Serialize)]
pub(super) struct JsonActor<'a> {
    kind: &'static str,
    name: String,
    #[serde(flatten)]
    process: Option<JsonProcess<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<std::net::IpAddr>,
}

/// A process.
#[derive(Serialize)]
struct JsonProcess<'a> {
    program: &'a str,
    executable: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
    #[serde(skip_serializing_if = "is_false")]
    memfd: bool,
    comm: &'a str,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    inner_pid: Option<u32>,
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<JsonContainer<'a>>,
    group: &'a str,
    parents: Vec<JsonParent<'a>>,
}

#[derive(Serialize)]
struct JsonContainer<'a> {
    runtime: &'a str,
    id: &'a str,
}

#[derive(Serialize)]
struct JsonParent<'a> {
    comm: &'a str,
    pid: u32,
    uid: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

impl<'a> JsonActor<'a> {
    /// Of an actor.
    pub(super) fn of(actor: &'a Actor) -> Self {
        let process = actor.process.as_deref().map(|process| JsonProcess {
            program: process.program(),
            executable: &process.path,
            arguments: process.arguments.as_deref(),
            deleted: process.is(marks::DELETED),
            memfd: process.is(marks::MEMFD),
            comm: &process.comm,
            pid: process.pid,
            inner_pid: process.inner_pid,
            uid: process.uid,
            user: process.user.as_deref(),
            unit: process.unit.as_deref(),
            container: process
                .container
                .as_ref()
                .map(|Container { runtime, id }| JsonContainer { runtime, id }),
            group: &process.group,
            parents: process
                .parents
                .iter()
                .map(|Parent { comm, pid, uid }| JsonParent { comm, pid: *pid, uid: *uid })
                .collect(),
        });
        Self { kind: actor.key.kind.label(), name: actor.name(), process, address: actor.address }
    }
}

/// The process of an actor, if it stands for one program.
fn process(actor: &Actor) -> Option<&Running> {
    actor.process.as_deref().filter(|_| actor.key.kind != Kind::Group)
}

/// The command line: path and arguments.
fn command_line(process: &Running) -> Option<String> {
    let arguments = process.arguments.as_ref()?;
    Some(format!("{} {arguments}", process.path))
}

/// Puts the process and the container of an actor into an evidence of OCSF.
pub(super) fn put_ocsf(evidence: &mut Value, actor: &Actor) {
    let container = actor.process.as_deref().and_then(|process| process.container.as_ref());
    put(
        evidence,
        "container",
        container.map(|Container { runtime, id }| json!({ "runtime": runtime, "uid": id })),
    );
    let Some(process) = process(actor) else {
        return;
    };
    let user = |uid: u32, name: Option<&str>| {
        let mut user = json!({ "uid": uid.to_string() });
        put(&mut user, "name", name);
        user
    };
    let mut value = json!({
        "name": process.comm,
        "pid": process.pid,
        "user": user(process.uid, process.user.as_deref()),
    });
    if !process.path.is_empty() {
        value["file"] = json!({ "name": process.program(), "path": process.path, "type_id": REGULAR });
    }
    put(&mut value, "cmd_line", command_line(process));
    // The nearest one is the outermost object.
    let parent = process.parents.iter().rev().fold(None, |above: Option<Value>, parent| {
        let mut value = json!({ "name": parent.comm, "pid": parent.pid, "user": user(parent.uid, None) });
        put(&mut value, "parent_process", above);
        Some(value)
    });
    put(&mut value, "parent_process", parent);
    evidence["process"] = value;
}

/// Puts the process, its user and its container into an event of ECS.
pub(super) fn put_ecs(event: &mut Value, actor: &Actor) {
    if let Some(Container { runtime, id }) =
        actor.process.as_deref().and_then(|process| process.container.as_ref())
    {
        event["container"] = json!({ "id": id, "runtime": runtime });
    }
    let Some(process) = process(actor) else {
        return;
    };
    let user = |uid: u32, name: Option<&str>| {
        let mut user = json!({ "id": uid.to_string() });
        put(&mut user, "name", name);
        user
    };
    let mut value = json!({
        "name": process.program(),
        "pid": process.pid,
        "user": user(process.uid, process.user.as_deref()),
    });
    put(&mut value, "executable", Some(process.path.as_str()).filter(|path| !path.is_empty()));
    put(&mut value, "command_line", command_line(process));
    if let Some(parent) = process.parents.first() {
        value["parent"] = json!({ "name": parent.comm, "pid": parent.pid, "user": user(parent.uid, None) });
    }
    event["process"] = value;
    put(event, "service", process.unit.as_ref().map(|unit| json!({ "name": unit })));
}
