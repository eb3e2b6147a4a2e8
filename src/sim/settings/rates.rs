//! The settings of AWS's token buckets.

use serde::Deserialize;

/// Token buckets by account and region: their size, and the tokens that return each second.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// RegisterTargets and DeregisterTargets share this bucket.
    pub elb_targets: Rate,
    pub elb_describe: Rate,
    pub ec2_mutating: Rate,
    pub ec2_describe: Rate,
    /// Every action of Auto Scaling.
    pub auto_scaling: Rate,
    /// A throttled call empties its bucket. Whether AWS does so is unknown.
    pub refusals_cost: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub size: f64,
    pub per_second: f64,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates {
            elb_targets: Rate { size: 20.0, per_second: 4.0 },
            elb_describe: Rate { size: 40.0, per_second: 10.0 },
            ec2_mutating: Rate { size: 50.0, per_second: 5.0 },
            ec2_describe: Rate { size: 100.0, per_second: 20.0 },
            auto_scaling: Rate { size: 100.0, per_second: 10.0 },
            refusals_cost: false,
        }
    }
}
