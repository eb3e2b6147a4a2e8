//! Signals to this very process.

use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGPIPE, SIGTERM};
use signal_hook::low_level::raise;
use spot_relay::host::signals::{Signals, StopRequest};
use tokio::time::timeout;

/// One test, because a signal reaches whatever else listens in this process.
#[tokio::test]
async fn every_sigterm_and_sigint_counts_once_and_sigpipe_kills_nobody() {
    let mut signals = Signals::new().unwrap();
    raise(SIGPIPE).unwrap();
    assert!(timeout(Duration::from_millis(50), signals.recv()).await.is_err());
    raise(SIGTERM).unwrap();
    raise(SIGINT).unwrap();
    raise(SIGTERM).unwrap();
    for _ in 0..3 {
        assert_eq!(timeout(Duration::from_secs(1), signals.recv()).await.unwrap(), StopRequest::Stop);
    }
    assert!(timeout(Duration::from_millis(50), signals.recv()).await.is_err());
}
