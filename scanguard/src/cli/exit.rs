//! Exit codes: one for each kind of error, so that scripts need not parse messages.

use std::process::ExitCode;

use crate::{
    app::prepare::PrepareError,
    config::ConfigError,
    control::{client::ClientError, socket::ControlError},
    export::http::ListenError,
    privileges::MissingPrivileges,
    sensor::{attach::AttachError, pins::PinsError, program::LoadError},
    user::UserError,
};

/// How the process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Success = 0,
    /// An error without its own code, such as a capture that cannot be replayed to its end.
    Failure = 1,
    /// The command line is wrong (clap's code).
    Usage = 2,
    /// The configuration is wrong.
    Config = 3,
    /// A capability is missing.
    Privileges = 4,
    /// The kernel lacks something.
    Kernel = 5,
    /// An interface does not exist, is in use, or does not support the requested mode.
    Interface = 6,
    /// The metrics listener could not be opened.
    Listen = 7,
    /// Another agent is running.
    Running = 8,
    /// The control socket or a lock could not be created.
    Control = 9,
    /// Existing pins cannot be used, or pinning is impossible.
    Pins = 10,
}

impl Exit {
    /// The code for an error, by its cause.
    pub fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if cause.is::<ConfigError>() {
                return Self::Config;
            }
            match cause.downcast_ref::<ClientError>() {
                Some(ClientError::Misconfigured { .. }) => return Self::Config,
                Some(
                    ClientError::NoAgent { .. }
                    | ClientError::Denied(_)
                    | ClientError::Refused(_)
                    | ClientError::Broken { .. },
                )
                | None => {}
            }
            if cause.is::<MissingPrivileges>() || cause.is::<UserError>() {
                return Self::Privileges;
            }
            match cause.downcast_ref::<PrepareError>() {
                Some(PrepareError::Unwritable { .. }) => return Self::Control,
                Some(PrepareError::NotRoot) => return Self::Privileges,
                None => {}
            }
            match cause.downcast_ref::<PinsError>() {
                Some(PinsError::Held { .. }) => return Self::Running,
                Some(
                    PinsError::NotBpffs { .. }
                    | PinsError::ReadOnly { .. }
                    | PinsError::Foreign { .. }
                    | PinsError::Corrupt { .. }
                    | PinsError::Denied { .. }
                    | PinsError::Io { .. }
                    | PinsError::Map { .. }
                    | PinsError::Object(_),
                ) => return Self::Pins,
                None => {}
            }
            if cause.is::<AttachError>() {
                return Self::Interface;
            }
            if cause.is::<ListenError>() {
                return Self::Listen;
            }
            match cause.downcast_ref::<ControlError>() {
                Some(ControlError::Held { .. }) => return Self::Running,
                // Starting again would not solve this.
                Some(ControlError::Group { .. }) => return Self::Config,
                Some(ControlError::Io { .. } | ControlError::Occupied(_)) => return Self::Control,
                None => {}
            }
            match cause.downcast_ref::<LoadError>() {
                Some(LoadError::Denied(_)) => return Self::Privileges,
                Some(LoadError::Unsupported { .. } | LoadError::NoTcx { .. } | LoadError::Layout) => {
                    return Self::Kernel;
                }
                Some(LoadError::Memory { .. } | LoadError::Descriptors(_)) => return Self::Failure,
                None => {}
            }
        }
        Self::Failure
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
