//! The identity of this instance: read until it is known, and again after a standstill or a recommendation.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::cloud::clock::Clock;
use crate::cloud::imds::Imds;
use crate::cloud::tally::Tally;
use crate::cloud::{Aws, Connection};
use crate::core::error_chain::error_chain;
use crate::core::incident::Incident;
use crate::core::model::Identity;
use crate::core::retry::Backoff;
use crate::host::files::Files;
use crate::host::threads;

/// The pauses between two tries.
pub(super) const IDENTIFY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };
/// A connection waits this long for the files of the AWS configuration, and [`MOST_READERS`] may do so at a time.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const MOST_READERS: usize = 2;
/// The wait for the record at the start.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// The clients for this instance's region, and the record of its last handover.
pub(super) struct Connected {
    pub(super) aws: Aws,
    pub(super) record: Result<Option<Incident>, String>,
}

pub(super) async fn identity(imds: &Imds) -> Result<Identity, String> {
    let identity = imds.identity().await;
    identity.map_err(|error| format!("who this instance is cannot be read from the metadata: {}", error_chain(&error)))
}

pub(super) async fn connect_as(
    identity: &Identity,
    imds: &Imds,
    clock: Clock,
    files: Files,
    tally: Tally,
) -> Result<Connected, String> {
    let connection = Connection { tally, ..Connection::with_metadata_of(imds, &identity.region, clock) };
    let aws = connect(connection).await.map_err(|error| format!("failed to set up the AWS clients: {error:#}"))?;
    let ours = identity.clone();
    let read = threads::run(move || files.read_record(&ours));
    // A disk that hangs is no reason to wait: the daemon can do without the record.
    let record = match tokio::time::timeout(READ_LIMIT, read).await {
        Ok(Ok(record)) => record,
        Ok(Err(_)) | Err(_) => {
            Err("the record cannot be read: the disk does not answer; going on without it".to_owned())
        }
    };
    Ok(Connected { aws, record })
}

/// Counts among the readers as long as it lives.
struct Reader(&'static AtomicUsize);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connects on a thread of its own, so that nothing else waits: the SDK reads the files of its configuration in place.
/// They may be a pipe, or lie on a disk that does not answer.
async fn connect(connection: Connection) -> anyhow::Result<Aws> {
    static READERS: AtomicUsize = AtomicUsize::new(0);
    if READERS.load(Ordering::Relaxed) >= MOST_READERS {
        anyhow::bail!("the AWS configuration files are still being read: see AWS_CONFIG_FILE and ~/.aws");
    }
    READERS.fetch_add(1, Ordering::Relaxed);
    let (runtime, reader) = (Handle::current(), Reader(&READERS));
    let connecting = threads::run(move || {
        let _reader = reader;
        runtime.block_on(Aws::connect(connection))
    });
    match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
        Ok(connected) => connected?,
        Err(_) => anyhow::bail!("the AWS configuration files cannot be read in time: see AWS_CONFIG_FILE and ~/.aws"),
    }
}
