//! Names to addresses, by the system's resolver: found in quiet times, kept, and used when the resolver is slow or
//! dead.
//!
//! Invariants: a look-up continues if its caller stops waiting, so the next try finds its result; one look-up of a name
//! runs at a time; where old addresses are known nobody waits longer than [`FRESH`] for new ones.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

/// The wait for a name without known addresses. The C library's resolver waits five seconds for a dead server before it
/// asks the next one, and asks both a second time.
pub(super) const NAME_LIMIT: Duration = Duration::from_secs(15);
/// The wait for fresh addresses where older ones are known.
const FRESH: Duration = Duration::from_millis(250);
/// More names than anybody needs, so that a redirecting or hostile party cannot fill the memory.
const MOST_NAMES: usize = 64;

type Resolved = Result<Vec<IpAddr>, String>;

type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// A handle; its copies share what was found.
#[derive(Clone)]
pub(crate) struct Names {
    shared: Arc<Mutex<NameTable>>,
    /// The resolver.
    ask: fn(String) -> Resolving,
}

impl Default for Names {
    fn default() -> Self {
        Self { shared: Arc::default(), ask: ask_the_system }
    }
}

/// Asks the C library on a thread, because its call blocks.
fn ask_the_system(name: String) -> Resolving {
    let find = move || (name.as_str(), 0).to_socket_addrs().map(|all| all.map(|address| address.ip()).collect());
    let found = on_a_thread("names", find);
    Box::pin(async move { found.await? })
}

/// Starts work that blocks on a disk or the C library, on its own thread. If no thread can start this returns an error;
/// tokio's `spawn_blocking` would panic.
pub(super) fn on_a_thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = io::Result<T>> + Send {
    let (sender, receiver) = oneshot::channel();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || drop(sender.send(work())));
    async move {
        thread?;
        receiver.await.map_err(io::Error::other)
    }
}

#[derive(Default)]
struct NameTable {
    names: HashMap<String, KnownName>,
    waits: Waits,
}

#[derive(Default)]
struct KnownName {
    /// The addresses that were found last.
    addresses: Vec<IpAddr>,
    /// The number of times they were returned. Each time another address comes first, so that a dead one is not always
    /// tried alone.
    given: usize,
    look_up: Option<NameLookUp>,
}

#[derive(Clone)]
struct NameLookUp {
    since: Instant,
    result: watch::Receiver<Option<Resolved>>,
}

/// The time in which anybody waited for a name without known addresses.
#[derive(Default)]
struct Waits {
    waiting: usize,
    since: Option<Instant>,
    before: Duration,
}

impl Names {
    /// The addresses of a name: fresh ones, or the last known.
    pub(super) async fn find(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let (look_up, is_known) = self.look_up(name);
        let limit = if is_known { FRESH.saturating_sub(look_up.since.elapsed()) } else { NAME_LIMIT };
        let waiting = (!is_known).then(|| WaitGuard::begin(self));
        let found = tokio::time::timeout(limit, result(look_up.result)).await;
        drop(waiting);
        match (self.addresses(name), found) {
            (Some(addresses), _) => Ok(addresses),
            (None, Ok(Err(why))) => Err(io::Error::other(why)),
            (None, _) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("no name server has answered for {name}")))
            }
        }
    }

    /// The result of `work` within `limit`. The wait for a name without known addresses does not count.
    pub(super) async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let (mut left, mut added) = (limit, Duration::ZERO);
        loop {
            let before = self.waited();
            if let Ok(answer) = tokio::time::timeout(left, &mut work).await {
                return Some(answer);
            }
            left = self.waited().saturating_sub(before).min(NAME_LIMIT.saturating_sub(added));
            added += left;
            if left.is_zero() {
                return None;
            }
        }
    }

    fn waited(&self) -> Duration {
        self.lock().waits.total()
    }

    /// The running look-up, or a new one; and whether old addresses are known.
    fn look_up(&self, name: &str) -> (NameLookUp, bool) {
        let mut shared = self.lock();
        if shared.names.len() >= MOST_NAMES && !shared.names.contains_key(name) {
            shared.names.clear();
        }
        let entry = shared.names.entry(name.to_owned()).or_default();
        let is_known = !entry.addresses.is_empty();
        if let Some(look_up) = &entry.look_up {
            return (look_up.clone(), is_known);
        }
        let (sender, result) = watch::channel(None);
        let look_up = NameLookUp { since: Instant::now(), result };
        entry.look_up = Some(look_up.clone());
        let (names, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            // The look-up has its own task, so that its panic becomes an error.
            let found = match tokio::spawn((names.ask)(name.clone())).await {
                Ok(Ok(addresses)) => Ok(addresses),
                Ok(Err(error)) => Err(format!("the name {name} was not found: {error}")),
                Err(_) => Err(format!("the look-up of the name {name} died")),
            };
            names.found(&name, &found);
            sender.send_replace(Some(found));
        });
        (look_up, is_known)
    }

    fn found(&self, name: &str, found: &Resolved) {
        let mut shared = self.lock();
        let Some(entry) = shared.names.get_mut(name) else { return };
        entry.look_up = None;
        if let Ok(addresses) = found
            && !addresses.is_empty()
        {
            entry.addresses.clone_from(addresses);
        }
    }

    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let mut shared = self.lock();
        let entry = shared.names.get_mut(name).filter(|entry| !entry.addresses.is_empty())?;
        let mut addresses = entry.addresses.clone();
        let first = entry.given % addresses.len();
        addresses.rotate_left(first);
        entry.given = entry.given.wrapping_add(1);
        Some(addresses)
    }

    /// Nothing panics while this lock is held.
    fn lock(&self) -> MutexGuard<'_, NameTable> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn result(mut result: watch::Receiver<Option<Resolved>>) -> Resolved {
    match result.wait_for(Option::is_some).await {
        Ok(found) => found.clone().unwrap_or_else(|| Ok(Vec::new())),
        Err(_) => Err("the look-up of a name was given up".to_owned()),
    }
}

impl Waits {
    fn total(&self) -> Duration {
        self.before + self.since.map(|since| since.elapsed()).unwrap_or_default()
    }
}

/// Counts one waiting caller as long as it lives.
struct WaitGuard<'a>(&'a Names);

impl WaitGuard<'_> {
    fn begin(names: &Names) -> WaitGuard<'_> {
        let mut shared = names.lock();
        shared.waits.waiting += 1;
        shared.waits.since.get_or_insert_with(Instant::now);
        drop(shared);
        WaitGuard(names)
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        let waits = &mut shared.waits;
        waits.waiting = waits.waiting.saturating_sub(1);
        if waits.waiting == 0 {
            waits.before = waits.total();
            waits.since = None;
        }
    }
}

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let names = self.clone();
        Box::pin(async move {
            let addresses = names.find(name.as_str()).await?.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as reqwest::dns::Addrs)
        })
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn asking(ask: fn(String) -> Resolving) -> Names {
        Names { ask, ..Names::default() }
    }

    fn slowly(_: String) -> Resolving {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(600)).await;
            Ok(vec![FIRST])
        })
    }

    #[tokio::test]
    async fn a_resolver_that_is_slower_than_a_calls_limit_is_waited_for() {
        let names = asking(slowly);
        let found = names.within(Duration::from_millis(200), names.find("x.example")).await;
        assert_eq!(found.unwrap().unwrap(), [FIRST]);
        let slow = tokio::time::sleep(Duration::from_secs(5));
        assert!(names.within(Duration::from_millis(200), slow).await.is_none(), "what is no look-up has its limit");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_found_all_the_same() {
        let names = asking(slowly);
        assert!(tokio::time::timeout(Duration::from_millis(50), names.find("x.example")).await.is_err());
        tokio::time::sleep(Duration::from_millis(700)).await;
        let found = tokio::time::timeout(Duration::from_millis(300), names.find("x.example")).await;
        assert_eq!(found.unwrap().unwrap(), [FIRST]);
    }

    #[tokio::test]
    async fn addresses_of_earlier_are_used_when_the_resolver_is_dead_or_says_no() {
        static IS_DEAD: AtomicBool = AtomicBool::new(false);
        let names = asking(|name| {
            Box::pin(async move {
                match (IS_DEAD.load(Ordering::Relaxed), name.as_str()) {
                    (false, _) => Ok(vec![FIRST, SECOND]),
                    (true, "dead.example") => std::future::pending().await,
                    (true, _) => Err(io::Error::other("NXDOMAIN")),
                }
            })
        });
        for name in ["dead.example", "no.example"] {
            IS_DEAD.store(false, Ordering::Relaxed);
            assert_eq!(names.find(name).await.unwrap(), [FIRST, SECOND]);
            IS_DEAD.store(true, Ordering::Relaxed);
            let began = Instant::now();
            assert_eq!(names.find(name).await.unwrap(), [SECOND, FIRST], "each time another one comes first");
            assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
            // A look-up that hangs is not waited for a second time.
            let began = Instant::now();
            names.find(name).await.unwrap();
            assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        }
    }

    /// As the webhook's POSTs, which are tried again.
    #[tokio::test]
    async fn a_client_that_gives_up_before_the_name_is_found_has_it_at_the_next_try() {
        use reqwest::dns::Resolve as _;
        let names = asking(slowly);
        let find = || names.resolve("x.example".parse().expect("a name"));
        assert!(tokio::time::timeout(Duration::from_millis(100), find()).await.is_err());
        tokio::time::sleep(Duration::from_millis(600)).await;
        let found = tokio::time::timeout(Duration::from_millis(300), find()).await.expect("in time").expect("found");
        assert_eq!(found.collect::<Vec<_>>(), [SocketAddr::new(FIRST, 0)]);
    }

    #[tokio::test]
    async fn a_look_up_that_dies_is_an_error() {
        let names = asking(|_| Box::pin(async { Err(io::Error::other(["no", "such"].concat())) }));
        assert!(names.find("x.example").await.unwrap_err().to_string().contains("nosuch"));
    }
}
