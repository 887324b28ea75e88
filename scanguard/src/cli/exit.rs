//! Exit codes: one for each kind of trouble, so that scripts need not read the words.

use std::process::ExitCode;

use crate::{
    config::ConfigError,
    control::{client::ClientError, socket::ControlError},
    export::http::ListenError,
    privileges::MissingPrivileges,
    sensor::{attach::AttachError, pins::PinsError, program::LoadError},
};

/// How the process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// As it should.
    Success = 0,
    /// Trouble that has no code of its own, such as a capture that cannot be replayed to its end.
    Failure = 1,
    /// The command line is wrong (clap's code).
    Usage = 2,
    /// The configuration is wrong.
    Config = 3,
    /// A capability is missing.
    Privileges = 4,
    /// The kernel lacks something.
    Kernel = 5,
    /// An interface does not exist, is taken, or cannot do what is asked.
    Interface = 6,
    /// The metrics listener could not be had.
    Listen = 7,
    /// Another agent is running.
    Running = 8,
    /// The control socket or a lock could not be had.
    Control = 9,
    /// What is pinned cannot be used, or nothing can be pinned.
    Pins = 10,
}

impl Exit {
    /// The code for an error, by what caused it.
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
            if cause.is::<MissingPrivileges>() {
                return Self::Privileges;
            }
            match cause.downcast_ref::<PinsError>() {
                Some(PinsError::Held { .. }) => return Self::Running,
                Some(
                    PinsError::NotBpffs { .. }
                    | PinsError::ReadOnly { .. }
                    | PinsError::Foreign { .. }
                    | PinsError::Corrupt { .. }
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
                // Another start would not mend it.
                Some(ControlError::Group { .. }) => return Self::Config,
                Some(ControlError::Io { .. } | ControlError::Occupied(_)) => return Self::Control,
                None => {}
            }
            match cause.downcast_ref::<LoadError>() {
                Some(LoadError::Denied(_)) => return Self::Privileges,
                Some(LoadError::Unsupported { .. } | LoadError::Layout) => return Self::Kernel,
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
