//! Work that may block on a disk, or reads much of the kernel's tables, on its own thread.
//!
//! Invariant: if no thread can start the caller gets an error (tokio's own `spawn_blocking` panics).

use std::future::Future;
use std::io;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Returns the result of `work`, which runs within the runtime. If this is dropped the work goes on.
///
/// # Errors
/// No thread could start, or the work panicked.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    begin(work)?.await
}

fn begin<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<impl Future<Output = io::Result<T>>> {
    let (sender, receiver) = oneshot::channel();
    let runtime = Handle::current();
    std::thread::Builder::new().name("work".to_owned()).spawn(move || {
        let _within = runtime.enter();
        // The caller may not wait for it any more.
        let _ = sender.send(work());
    })?;
    Ok(async { receiver.await.map_err(|_| io::Error::other("the work died")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_comes_back_and_a_panic_of_it_is_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            assert_eq!(run(|| 7).await.expect("its work"), 7);
            assert!(run(|| assert_eq!(1, 2)).await.is_err());
        });
    }
}
