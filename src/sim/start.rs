//! Starts a simulation and its listeners on loopback.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::server::{self, Role, Tls};
use super::settings::Settings;
use super::simulation::{Endpoints, Inner, Sim};
use super::world::World;

async fn loopback() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

impl Sim {
    /// Binds 127.0.0.1 port 0 for the metadata and for AWS, and starts the servers on the current tokio runtime. All
    /// APIs share one port; their version tells them apart.
    pub async fn start(settings: Settings) -> io::Result<Sim> {
        Sim::start_on(settings, loopback().await?, loopback().await?, None).await
    }

    /// Starts on these listeners, with optional TLS for AWS.
    pub async fn start_on(
        settings: Settings,
        metadata: TcpListener,
        aws: TcpListener,
        tls: Option<Tls>,
    ) -> io::Result<Sim> {
        let world = World::new(settings);
        let ours = world.ours.clone();
        let inner = Arc::new(Inner {
            started: world.clock.started(),
            runtime: Handle::current(),
            world: Mutex::new(world),
            log: Mutex::default(),
            watcher: Mutex::default(),
            connections: AtomicU64::new(1),
            endpoints: OnceLock::new(),
        });
        let acceptor = tls.as_ref().map(server::acceptor).transpose()?;
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let metadata = server::serve(&inner, metadata, Role::metadata_by_address(&ours), None)?;
        let aws = server::serve(&inner, aws, Role::Aws, acceptor)?;
        let control = server::serve(&inner, loopback().await?, Role::Control, None)?;
        let endpoints = Endpoints { metadata, aws: format!("{scheme}://{aws}"), control };
        // This handle is new, so the endpoints are set only once.
        let _ = inner.endpoints.set(endpoints);
        Ok(Sim(inner))
    }

    /// Starts a simulation on its own thread and runtime, for callers that block. It lives as long as the process.
    pub fn start_on_a_thread(settings: Settings) -> io::Result<Sim> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let _ = sender.send(Sim::start(settings).await);
                std::future::pending::<()>().await;
            });
        });
        receiver.recv().map_err(io::Error::other)?
    }

    /// Starts another endpoint, for the metadata of another instance.
    pub async fn metadata_for(&self, instance_id: &str) -> io::Result<String> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        // The caller's runtime may end after this call, so the server runs on the simulation's.
        let _simulation = self.0.runtime.enter();
        let address = server::serve(&self.0, TcpListener::from_std(listener)?, Role::metadata(instance_id), None)?;
        Ok(format!("http://{address}"))
    }
}
