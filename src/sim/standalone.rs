//! The simulator as its own program: for suites in other languages, benchmarks, and machines with network namespaces.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use tokio::net::TcpListener;

use super::server::Tls;
use super::settings::Settings;
use super::simulation::Sim;

/// The addresses to listen on; by default a free port on loopback.
#[derive(Clone, Debug, Default)]
pub struct Standalone {
    pub metadata: Option<SocketAddr>,
    pub aws: Option<SocketAddr>,
    /// Every instance of the start has a metadata service on its own port.
    pub metadata_of_all: bool,
    pub tls: Option<Tls>,
}

/// Prints one line of JSON with the endpoints on stdout, and runs until the process ends.
pub async fn standalone(settings: Settings, options: Standalone) -> io::Result<()> {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let metadata = TcpListener::bind(options.metadata.unwrap_or(free)).await?;
    let aws = TcpListener::bind(options.aws.unwrap_or(free)).await?;
    let sim = Sim::start_on(settings, metadata, aws, options.tls).await?;
    let mut instances = serde_json::Map::new();
    let all: Vec<String> = sim.world().instances.iter().map(|instance| instance.id.clone()).collect();
    for id in all.into_iter().filter(|_| options.metadata_of_all) {
        let endpoint = sim.metadata_for(&id).await?;
        instances.insert(id, endpoint.into());
    }
    let endpoints = json!({
        "instances": instances,
        "metadata": sim.metadata_endpoint(),
        "aws": sim.aws_endpoint(),
        "control": sim.control_endpoint(),
        "instance_id": sim.instance_id(),
    });
    let mut stdout = io::stdout();
    writeln!(stdout, "{endpoints}")?;
    stdout.flush()?;
    std::future::pending().await
}
