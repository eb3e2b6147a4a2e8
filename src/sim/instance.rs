//! One instance.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use super::settings::LifeCycle;

#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) place: InstancePlace,
    pub(crate) private_ip: String,
    pub(crate) state: InstanceState,
    pub(crate) reason: String,
    pub(crate) launched: Instant,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) spot: Option<Spot>,
    pub(crate) notice: Option<Notice>,
    /// The `noticeTime` of a rebalance recommendation.
    pub(crate) rebalance: Option<String>,
    /// The keeper replaces it although it lives.
    pub(crate) at_risk: bool,
    /// The body of `autoscaling/target-lifecycle-state`; `None` answers 404.
    pub(crate) target_lifecycle_state: Option<String>,
    /// The world began with it.
    pub(crate) first: bool,
}

/// A pool and a subnet in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InstancePlace {
    pub(crate) instance_type: String,
    pub(crate) zone: String,
    pub(crate) subnet: String,
    pub(crate) life_cycle: LifeCycle,
}

#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub(crate) id: String,
    /// `active`, `closed`, `disabled`
    pub(crate) state: &'static str,
    /// `fulfilled`, `marked-for-termination`, ...
    pub(crate) status: &'static str,
    pub(crate) updated: Instant,
    /// The request is of type `persistent`: it launches again when its instance ends.
    pub(crate) persistent: bool,
}

impl Spot {
    /// Tells whether AWS interrupts the instance.
    pub(crate) fn is_taken(&self) -> bool {
        self.status.starts_with("marked-for-") || self.status == "instance-terminated-no-capacity"
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) action: String,
    pub(crate) time: String,
    pub(crate) serial: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InstanceState {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl InstanceState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            InstanceState::Pending => "pending",
            InstanceState::Running => "running",
            InstanceState::ShuttingDown => "shutting-down",
            InstanceState::Terminated => "terminated",
            InstanceState::Stopping => "stopping",
            InstanceState::Stopped => "stopped",
        }
    }

    /// The low byte of the state code, which identifies the state.
    pub(crate) fn code(self) -> u16 {
        match self {
            InstanceState::Pending => 0,
            InstanceState::Running => 16,
            InstanceState::ShuttingDown => 32,
            InstanceState::Terminated => 48,
            InstanceState::Stopping => 64,
            InstanceState::Stopped => 80,
        }
    }

    /// The code in AWS's answers. The high byte is for AWS's own use, so comparing the whole number is wrong.
    pub(crate) fn code_with_high_byte(self) -> u16 {
        self.code() | 0x0100
    }
}

impl Instance {
    /// The IPv6 address, in a world with IPv6. It follows from the subnet's number and the IPv4 address.
    pub(crate) fn ipv6_address(&self) -> String {
        let [a, b, c, d] = self.private_ip.parse().unwrap_or(Ipv4Addr::UNSPECIFIED).octets().map(u16::from);
        Ipv6Addr::new(0x2001, 0xdb8, 0, c, 0, a << 8 | b, 0, d).to_string()
    }

    pub(crate) fn has_address(&self, address: &str) -> bool {
        self.private_ip == address || self.ipv6_address() == address
    }

    pub(crate) fn alive(&self) -> bool {
        matches!(self.state, InstanceState::Pending | InstanceState::Running)
    }

    /// Tells whether it is stopped by an interruption and will return, so its keeper does not replace it.
    pub(crate) fn paused(&self) -> bool {
        self.notice.is_some() && matches!(self.state, InstanceState::Stopping | InstanceState::Stopped)
    }

    /// Tells whether AWS interrupts it.
    pub(crate) fn is_taken(&self) -> bool {
        self.spot.as_ref().is_some_and(Spot::is_taken)
    }

    /// Starts it again after a stop.
    pub(crate) fn resume(&mut self) {
        self.state = InstanceState::Running;
        if let Some(spot) = &mut self.spot {
            spot.state = "active";
        }
    }

    pub(crate) fn kept_by(&self, keeper: &Keeper) -> bool {
        self.keeper.as_ref() == Some(keeper)
    }
}

/// The parameters of a launch.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) place: InstancePlace,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) keeper: Option<Keeper>,
}

/// The owner that counts the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    AutoScalingGroup(String),
    Fleet(String),
}
