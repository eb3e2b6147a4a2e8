//! A simulated metadata service and AWS, over HTTP on loopback, for the demo and the tests.
//!
//! Real clients use it over real sockets. It imports nothing of the daemon, so both cannot share an error. The `world`
//! changes with time by itself; the metadata and the `api_*` files show and change it; `faults` spoil answers on
//! request; `requests` records everything that arrived. One instance is *ours*: its metadata is served.

mod settings;
mod setup;
mod world;

// A file in the singular holds one thing; a file in the plural holds the events of such things.
mod auto_scaling;
mod auto_scaling_group;
mod fleet;
mod fleets;
mod instance;
mod instance_types;
mod instances;
mod launch_template;
mod launch_templates;
mod members;
mod reported_health;
mod target_group;
mod target_groups;
mod target_zones;

mod credentials;
mod metadata;

mod answers;
mod api_auto_scaling;
mod api_auto_scaling_describe;
mod api_ec2;
mod api_ec2_instance;
mod api_elb;
mod api_fleets;
mod api_launch_templates;
mod api_run_instances;
mod api_spot;
mod aws;
mod query;
mod rates;
mod refusal;
mod xml;

mod clock;
mod faults;
mod reply;
mod requests;
mod server;

mod control;
mod simulation;
mod snapshot;
mod standalone;
mod start;

pub use faults::{Fault, FaultKind, Nth};
pub use requests::{Request, RequestMoment};
pub use server::Tls;
pub use settings::{
    DeathAtBirth, DrainingAddress, FleetSettings, FleetType, HealthSource, LifeCycle, LoadBalancerType, Other, Owner,
    Pool, Rate, Rates, Settings, TargetGroupSettings, TargetType, TargetUnit, TemplateSettings, Timings,
};
pub use simulation::Sim;
pub use standalone::{Standalone, standalone};
pub use target_group::Reported;
