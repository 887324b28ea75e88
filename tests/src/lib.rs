//! What the tests, the demo and the bench share: one packet table for all layers, and real networks.

pub mod agent;
pub mod answers;
pub mod behind;
pub mod browser;
pub mod capture;
pub mod captures;
pub mod cases;
pub mod certificate;
pub mod cgroup;
pub mod cleanup;
pub mod clients;
pub mod crowdsec;
pub mod faults;
pub mod frames;
pub mod fuzz;
pub mod lab;
pub mod packets;
pub mod pinned;
pub mod program;
pub mod root;
pub mod scans;
pub mod soak;
pub mod stage;
pub mod stream;
pub mod wire;
pub mod xsk;
