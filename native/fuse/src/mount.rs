//! The life of one mount: checked and mounted, answering, unmounted. Everything that may block on the kernel runs on
//! blocking threads with a deadline.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::time::Deadline;
use base::{Error, Result};
use client::Engine;
use kernel::{MountOptions, Mounted, Session, Way};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::adapter::{Adapter, WANTED};
use crate::core::Core;
use crate::groups::Groups;
use crate::metrics::Metric;
use crate::mount_point;

/// Until the mount answers its first request. The engine has found the leader before, so this is short.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a busy mount is asked to go before it is detached with whatever still uses it.
const BUSY_PATIENCE: Duration = Duration::from_secs(3);
const BUSY_RETRY: Duration = Duration::from_millis(200);
/// Of one try, which may have to wait for requests in progress.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(2);
/// How long requests in progress may take after the mount is gone from the tree.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Enough to keep several chunk fetches under way; the kernel's usual 128 KiB allow none.
const READ_AHEAD_KIB: u32 = 4096;

#[derive(Clone, Debug)]
pub struct MountConfig {
    pub mount_point: PathBuf,
    /// Other users may use it too; the masters check their rights. Off: only the one who mounted.
    pub allow_other: bool,
    /// Supplementary groups are those of the account database, not those of the asking process.
    pub account_groups: bool,
    /// Threads that take requests from the kernel. They never wait for the network, so few are enough.
    pub threads: usize,
    /// The source that mount(8) and df(1) show.
    pub fs_name: String,
}

base::numbers! { MountConfig,
    given {}
    default {
        threads = 2, 1, 16;
    }
}

pub fn default_threads() -> usize {
    default::threads()
}

/// What the kernel knows of, and the threads that answer it.
struct Served {
    session: Session,
    mounted: Mounted,
}

/// A mounted file system. Dropping it unmounts too, but only `stop` waits and tells.
pub struct Mount {
    core: Arc<Core>,
    mount_point: PathBuf,
    device: (u32, u32),
    session: Mutex<Option<Served>>,
}

impl Mount {
    /// Mount, and return when the file system answers there. `runtime` carries out the requests.
    pub async fn start(engine: Arc<Engine>, runtime: Handle, config: MountConfig) -> Result<Mount> {
        config.check()?;
        let core = Arc::new(Core::new(engine, runtime, Groups::new(config.account_groups)));
        let options = options(&config);
        let adapter = Arc::new(Adapter { core: core.clone() });
        let (wanted, threads) = (config.mount_point.clone(), config.threads);
        let (mount_point, served) = blocking(&config.mount_point, START_TIMEOUT, move || {
            let mount_point = mount_point::prepare(&wanted)?;
            let served = kernel::mount(&mount_point, &options).and_then(|mounted| {
                let session = Session::start(mounted.device().clone(), adapter, &WANTED, threads)?;
                Ok(Served { session, mounted })
            });
            let served = served.map_err(|error| {
                mount_point::about(&mount_point, "mounting (is /dev/fuse there and allowed?)", error)
            })?;
            Ok((mount_point, served))
        })
        .await?;
        core.notices
            .start(served.session.notifier())
            .map_err(|error| mount_point::about(&mount_point, "starting a thread", error))?;
        let mut mount = Mount { core, mount_point, device: (0, 0), session: Mutex::new(Some(served)) };
        match mount.answers().await {
            Ok(device) => mount.device = device,
            Err(error) => {
                let _ = mount.stop().await;
                return Err(error);
            }
        }
        let device = mount.device;
        blocking(&mount.mount_point, START_TIMEOUT, move || {
            mount_point::raise_read_ahead(device, READ_AHEAD_KIB);
            Ok(())
        })
        .await?;
        tracing::info!(mount_point = %mount.mount_point.display(), "mounted");
        Ok(mount)
    }

    /// Ask the new mount something; -> its device numbers.
    async fn answers(&self) -> Result<(u32, u32)> {
        let path = self.mount_point.clone();
        blocking(&self.mount_point, START_TIMEOUT, move || {
            let about = |error| mount_point::about(&path, "the new mount does not answer", error);
            if !mount_point::is_fuse(&path).map_err(about)? {
                return Err(about(std::io::Error::from_raw_os_error(libc::ENOTCONN)));
            }
            mount_point::device(&path).map_err(about)
        })
        .await
    }

    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// False once somebody unmounted it, by `stop` or from outside.
    pub fn is_mounted(&self) -> bool {
        self.session.lock().as_ref().is_some_and(|served| !served.session.is_finished())
    }

    /// Unmount: politely, and detached when it stays busy. Requests in progress end first; the engine stays open.
    pub async fn stop(&self) -> Result<()> {
        let Some(served) = self.session.lock().take() else { return Ok(()) };
        let outcome = self.unmount(&Arc::new(served)).await;
        self.core.notices.stop();
        let left = self.core.drained(DRAIN_TIMEOUT).await;
        if left > 0 {
            tracing::warn!(left, "requests were still in progress when the mount ended");
        }
        outcome?;
        tracing::info!(mount_point = %self.mount_point.display(), "unmounted");
        Ok(())
    }

    async fn unmount(&self, served: &Arc<Served>) -> Result<()> {
        let deadline = Deadline::after(BUSY_PATIENCE);
        loop {
            match self.try_to_unmount(served, Way::Unused).await {
                Ok(()) => return Ok(()),
                Err(error) if deadline.passed() => {
                    tracing::warn!(%error, "still in use; detaching it");
                    break;
                }
                Err(_) => tokio::time::sleep(BUSY_RETRY).await,
            }
        }
        let detached = self.try_to_unmount(served, Way::Lazily).await;
        // What still uses it, and whoever waits for its end, is told that it is gone.
        if let Err(error) = mount_point::abort(self.device) {
            tracing::debug!(%error, "the detached mount's connection stays until this process ends");
        }
        if detached.is_err() {
            // Dropped, it would try once more, and wait.
            std::mem::forget(served.clone());
        }
        detached
    }

    async fn try_to_unmount(&self, served: &Arc<Served>, way: Way) -> Result<()> {
        let (path, served) = (self.mount_point.clone(), served.clone());
        blocking(&self.mount_point, 2 * UNMOUNT_LIMIT, move || {
            served
                .mounted
                .unmount(way, UNMOUNT_LIMIT)
                .map_err(|error| mount_point::about(&path, "unmounting it", error))
        })
        .await
    }

    pub fn status(&self) -> serde_json::Value {
        serde_json::json!({
            "mount_point": self.mount_point.display().to_string(),
            "mounted": self.is_mounted(),
            "open_files": self.core.files.count(),
        })
    }

    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics = self.core.counters.metrics();
        metrics.push(("mooseng_fuse_mounted", Vec::new(), f64::from(u8::from(self.is_mounted()))));
        metrics.push(("mooseng_fuse_open_files", Vec::new(), self.core.files.count() as f64));
        metrics
    }
}

impl MountConfig {
    /// One sentence about the first setting that cannot work.
    pub fn check(&self) -> Result<()> {
        base::setting::check(NUMBERS, self)?;
        if self.fs_name.is_empty() || self.fs_name.contains([',', '\0', '\\']) {
            let why = format!("the file system name {:?} must not be empty or hold a comma", self.fs_name);
            return Err(Error::namespace(libc::EINVAL, why));
        }
        Ok(())
    }
}

fn options(config: &MountConfig) -> MountOptions {
    MountOptions {
        source: config.fs_name.clone(),
        // Root's mounts are of the plain type `fuse`, which tools that look for it know.
        subtype: (!rustix::process::geteuid().is_root()).then(|| "mooseng".to_string()),
        allow_other: config.allow_other,
        default_permissions: false,
    }
}

/// Run what may block, for a while; past that the thread is left behind and the caller told.
async fn blocking<T: Send + 'static>(
    path: &Path,
    timeout: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::time::timeout(timeout, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            Err(Error::namespace(libc::EIO, format!("working on the mount point {} panicked", path.display())))
        }
        Err(_) => Err(Error::unavailable(format!(
            "the mount point {} did not answer within {timeout:?}; is a dead mount below it?",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(threads: usize, fs_name: &str) -> MountConfig {
        MountConfig {
            mount_point: "/none".into(),
            allow_other: false,
            account_groups: false,
            threads,
            fs_name: fs_name.to_string(),
        }
    }

    #[test]
    fn a_comma_cannot_smuggle_in_a_mount_option() {
        assert_eq!(config(2, "a,suid").check().unwrap_err().errno, libc::EINVAL);
        assert!(config(2, "mooseng").check().is_ok());
    }

    #[test]
    fn a_number_of_threads_out_of_range_is_refused() {
        assert!(config(0, "mooseng").check().unwrap_err().message.contains("threads is 0; it must be 1 to 16"));
    }
}
