//! A small file system under the kernel itself: what is parsed, answered and told has to suit the one that runs here.
//! Needs /dev/fuse and root; without them each test says so and passes.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::abi::{ROOT_INODE, fopen, init};
use kernel::{
    Attributes, Entry, FileSystem, Listing, MountOptions, Mounted, Opened, Operation, Replier, Request, Session,
    SetTime, Statx, Time, Wanted, Way, mount,
};
use parking_lot::{Condvar, Mutex};

const PATIENCE: Duration = Duration::from_secs(20);
const FILE: u64 = 2;
/// Its reads wait until a test answers them.
const SLOW: u64 = 3;
/// Looking at it panics.
const BROKEN: u64 = 4;
const NAMES: [(&str, u64); 3] = [("file", FILE), ("slow", SLOW), ("broken", BROKEN)];
const CONTENT: &[u8] = b"what the file holds";
const BORN: Time = Time { seconds: -3, nanoseconds: 250_000_000 };

const WANTED: Wanted = Wanted {
    flags: init::ASYNC_READ | init::DO_READDIRPLUS | init::FLOCK_LOCKS | init::POSIX_LOCKS | init::HAS_RESEND,
    max_write_bytes: 1 << 20,
    max_readahead_bytes: 1 << 20,
    max_background: 64,
};

#[derive(Default)]
struct Seen {
    events: Vec<String>,
    waiting: Vec<(Replier, bool)>,
    counts: HashMap<&'static str, usize>,
    mtime: Option<Time>,
}

#[derive(Default)]
struct Small {
    seen: Mutex<Seen>,
    more: Condvar,
}

fn attributes(inode: u64, mtime: Option<Time>) -> Attributes {
    let mode = if inode == ROOT_INODE { libc::S_IFDIR | 0o755 } else { libc::S_IFREG | 0o644 };
    let size = if inode == ROOT_INODE { 0 } else { CONTENT.len() as u64 };
    let mtime = mtime.unwrap_or(BORN);
    Attributes { inode, mode, size, nlink: 1, mtime, block_bytes: 4096, ..Attributes::default() }
}

fn entry(inode: u64) -> Entry {
    let long = Duration::from_secs(1000);
    Entry { inode, entry_valid: long, attributes: attributes(inode, None), ..Entry::default() }
}

impl Small {
    fn note(&self, event: impl Into<String>) {
        self.seen.lock().events.push(event.into());
        self.more.notify_all();
    }

    fn count(&self, what: &'static str) -> usize {
        self.seen.lock().counts.get(what).copied().unwrap_or(0)
    }

    /// What `look` finds, as soon as it finds something.
    fn until<T>(&self, mut look: impl FnMut(&mut Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.lock();
        loop {
            if let Some(found) = look(&mut seen) {
                return found;
            }
            assert!(!self.more.wait_until(&mut seen, deadline).timed_out(), "waited in vain; {:?}", seen.events);
        }
    }

    fn until_told(&self, event: &str) {
        self.until(|seen| seen.events.iter().position(|told| told.starts_with(event)).map(|at| seen.events.remove(at)));
    }

    fn listing(&self, cookie: u64, mut add: impl FnMut(u64, u64, &str) -> bool) {
        let all = [(".", ROOT_INODE), ("..", ROOT_INODE)].into_iter().chain(NAMES);
        for (at, (name, inode)) in all.enumerate().skip(cookie as usize) {
            if !add(inode, at as u64 + 1, name) {
                return;
            }
        }
    }

    fn lookup(&self, name: &[u8], reply: Replier) {
        *self.seen.lock().counts.entry("lookup").or_default() += 1;
        match NAMES.iter().find(|(known, _)| known.as_bytes() == name) {
            Some((_, inode)) => reply.entry(&entry(*inode)),
            None => reply.error(libc::ENOENT),
        }
    }

    fn read(&self, request: &Request<'_>, offset: u64, size: u32, reply: Replier) {
        if request.inode == SLOW {
            self.seen.lock().waiting.push((reply, request.is_resend));
            self.more.notify_all();
            return;
        }
        let from = CONTENT.get(offset as usize..).unwrap_or(&[]);
        reply.data(&from[..from.len().min(size as usize)]);
    }
}

impl FileSystem for Small {
    fn handle(&self, request: Request<'_>, reply: Replier) {
        let mtime = self.seen.lock().mtime;
        match request.operation {
            Operation::Lookup { name } => self.lookup(name, reply),
            Operation::GetAttr { .. } | Operation::Statx { .. } if request.inode == BROKEN => {
                panic!("as this file always does")
            }
            Operation::GetAttr { .. } => reply.attributes(Duration::ZERO, &attributes(request.inode, mtime)),
            Operation::SetAttr(set) => {
                if let Some(SetTime::To(time)) = set.mtime {
                    self.seen.lock().mtime = Some(time);
                }
                let mtime = self.seen.lock().mtime;
                reply.attributes(Duration::ZERO, &attributes(request.inode, mtime));
            }
            Operation::Statx { mask, .. } => {
                let attributes = attributes(request.inode, mtime);
                reply.statx(Duration::ZERO, &Statx { mask, attributes, birth: BORN, ..Statx::default() });
            }
            // Past the page cache, whose reads ahead nobody interrupts.
            Operation::Open { .. } if request.inode == SLOW => {
                assert!(reply.opened(Opened { handle: 9, flags: fopen::DIRECT_IO }));
            }
            Operation::Open { .. } | Operation::OpenDir { .. } => assert!(reply.opened(Opened { handle: 9, flags: 0 })),
            Operation::Read { offset, size, .. } => self.read(&request, offset, size, reply),
            Operation::Write { data, .. } => {
                self.note(format!("write of {}", data.len()));
                reply.written(data.len() as u32);
            }
            Operation::ReadDir { cookie, size, .. } => {
                let mut listing = Listing::new(size);
                self.listing(cookie, |inode, cookie, name| {
                    listing.add(inode, cookie, attributes(inode, None).mode, name.as_bytes())
                });
                reply.listing(&listing);
            }
            Operation::ReadDirPlus { cookie, size, .. } => {
                let mut listing = Listing::new(size);
                self.listing(cookie, |inode, cookie, name| listing.add_plus(&entry(inode), cookie, name.as_bytes()));
                reply.listing(&listing);
            }
            Operation::TmpFile { mode, .. } => {
                self.note(format!("file without a name, {mode:o}"));
                reply.created(&entry(100), Opened { handle: 10, flags: 0 });
            }
            Operation::SetLock { request, wait } => {
                self.note(format!("lock flock={} wait={wait} kind={}", request.flock, request.lock.kind));
                reply.ok();
            }
            Operation::Release { .. } | Operation::ReleaseDir { .. } | Operation::Flush { .. } => reply.ok(),
            _ => reply.error(libc::ENOSYS),
        }
    }

    fn interrupt(&self, unique: u64) {
        self.note(format!("interrupt {unique}"));
    }

    fn destroyed(&self) {
        self.note("destroyed");
    }
}

/// A mount that is gone when this is, whatever a test came to.
struct Here {
    dir: PathBuf,
    small: Arc<Small>,
    session: Session,
    mounted: Option<Mounted>,
    _parent: tempfile::TempDir,
}

impl Here {
    fn start() -> Option<Here> {
        Here::start_with(&MountOptions { source: "small".to_string(), ..MountOptions::default() })
    }

    fn start_with(options: &MountOptions) -> Option<Here> {
        if !rustix::process::geteuid().is_root() || OpenOptions::new().read(true).open("/dev/fuse").is_err() {
            println!("skipped: mounting needs root and /dev/fuse");
            return None;
        }
        let parent = tempfile::tempdir().unwrap();
        let (dir, small) = (parent.path().join("mnt"), Arc::new(Small::default()));
        fs::create_dir(&dir).unwrap();
        let mounted = mount(&dir, options).unwrap();
        let session = Session::start(mounted.device().clone(), small.clone(), &WANTED, 2).unwrap();
        Some(Here { dir, small, session, mounted: Some(mounted), _parent: parent })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A program that reads the slow file, and its read, which waits.
    fn slow_reader(&self) -> (std::process::Child, Replier) {
        let reader = Command::new("cat").arg(self.path("slow")).stdout(Stdio::piped()).spawn().unwrap();
        let (reply, again) = self.small.until(|seen| seen.waiting.pop());
        assert!(!again);
        (reader, reply)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        // Whoever still waits must not keep the mount busy.
        self.small.seen.lock().waiting.clear();
    }
}

/// The line of /proc/mounts about `path`.
fn shown(path: &Path) -> Option<String> {
    let wanted = format!(" {} ", path.display());
    fs::read_to_string("/proc/mounts").unwrap().lines().find(|line| line.contains(&wanted)).map(str::to_string)
}

#[test]
fn files_are_listed_and_read_until_the_mount_is_gone() {
    let Some(mut here) = Here::start() else { return };
    let line = shown(&here.dir).unwrap();
    assert!(
        line.starts_with("small ") && line.contains(" fuse rw,nosuid,nodev,relatime,user_id=0,group_id=0 "),
        "{line}"
    );
    assert_eq!(fs::read(here.path("file")).unwrap(), CONTENT);
    assert_eq!(fs::metadata(here.path("none")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    let mut names: Vec<_> = fs::read_dir(&here.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["broken", "file", "slow"]);
    assert!(!here.session.is_finished());
    here.mounted.take().unwrap().unmount(Way::Unused, PATIENCE).unwrap();
    here.small.until_told("destroyed");
    assert_eq!(shown(&here.dir), None);
    while !here.session.is_finished() {
        std::thread::yield_now();
    }
}

#[test]
fn a_mount_shows_its_subtype_and_who_may_use_it() {
    let options = MountOptions {
        source: "small".to_string(),
        subtype: Some("tiny".to_string()),
        allow_other: true,
        default_permissions: true,
    };
    let Some(here) = Here::start_with(&options) else { return };
    let line = shown(&here.dir).unwrap();
    assert!(line.contains(" fuse.tiny rw,nosuid,nodev,"), "{line}");
    assert!(line.contains("default_permissions") && line.contains("allow_other"), "{line}");
}

/// Where the test below starts itself anew as an ordinary user: the directory to mount on.
const AS_A_USER_AT: &str = "KERNEL_TEST_MOUNT_POINT";
const USER: u32 = 65534;

#[test]
fn an_ordinary_user_mounts_by_the_helper() {
    if let Some(dir) = std::env::var_os(AS_A_USER_AT) {
        return mount_as_a_user(Path::new(&dir));
    }
    let is_root = rustix::process::geteuid().is_root();
    let for_users = fs::metadata("/dev/fuse").is_ok_and(|device| device.mode() & 0o006 == 0o006);
    if !is_root || !for_users || Command::new("fusermount3").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: this needs root, to become an ordinary user, fusermount3, and /dev/fuse open to everybody");
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (dir, program) = (parent.path().join("mnt"), parent.path().join("test"));
    fs::create_dir(&dir).unwrap();
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::os::unix::fs::chown(&dir, Some(USER), Some(USER)).unwrap();
    let mut child = Command::new(program);
    child.args(["--exact", "an_ordinary_user_mounts_by_the_helper"]).env(AS_A_USER_AT, &dir);
    let done = child.uid(USER).gid(USER).current_dir("/").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    assert_eq!(shown(&dir), None);
}

fn mount_as_a_user(dir: &Path) {
    let subtype = Some("tiny".to_string());
    let mounted =
        mount(dir, &MountOptions { source: "small".to_string(), subtype, ..MountOptions::default() }).unwrap();
    let small = Arc::new(Small::default());
    Session::start(mounted.device().clone(), small.clone(), &WANTED, 2).unwrap();
    let line = shown(dir).unwrap();
    assert!(line.starts_with("small ") && line.contains(" fuse.tiny rw,nosuid,nodev,"), "{line}");
    assert!(line.contains("user_id=65534,group_id=65534"), "{line}");
    assert_eq!(fs::read(dir.join("file")).unwrap(), CONTENT);
    mounted.unmount(Way::Unused, PATIENCE).unwrap();
    small.until_told("destroyed");
    let refused =
        mount(dir, &MountOptions { source: "small".to_string(), allow_other: true, ..MountOptions::default() });
    assert!(refused.unwrap_err().to_string().contains("user_allow_other"), "the helper's own words");
}

#[test]
fn the_kernel_itself_keeps_other_users_out_unless_they_are_allowed() {
    for allow_other in [false, true] {
        let options = MountOptions { source: "small".to_string(), allow_other, ..MountOptions::default() };
        let Some(here) = Here::start_with(&options) else { return };
        fs::set_permissions(here.dir.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
        let read = |command: &mut Command| command.uid(USER).gid(USER).current_dir("/").output().unwrap();
        let by_name = read(Command::new("cat").arg(here.path("file")));
        assert_eq!(by_name.status.success(), allow_other, "{}", String::from_utf8_lossy(&by_name.stderr));
        assert_eq!(here.small.count("lookup") > 0, allow_other);
        // Not `cat`: it asks for attributes first, and those are refused here too.
        let script = ["-c", "read line; printf %s \"$line\""];
        let inherited = read(Command::new("sh").args(script).stdin(File::open(here.path("file")).unwrap()));
        assert_eq!(inherited.stdout, CONTENT, "what was opened may be used");
    }
}

#[test]
fn times_before_1970_go_both_ways_to_the_nanosecond() {
    let Some(here) = Here::start() else { return };
    let shown = fs::metadata(here.path("file")).unwrap();
    assert_eq!((shown.mtime(), shown.mtime_nsec()), (-3, 250_000_000));
    let file = File::open(here.path("file")).unwrap();
    let wanted = std::time::UNIX_EPOCH - Duration::from_nanos(1_500_000_001);
    file.set_modified(wanted).unwrap();
    assert_eq!(here.small.seen.lock().mtime, Some(Time { seconds: -2, nanoseconds: 499_999_999 }));
    assert_eq!(file.metadata().unwrap().modified().unwrap(), wanted);
    assert_eq!(fs::metadata(here.path("file")).unwrap().created().unwrap(), {
        std::time::UNIX_EPOCH - Duration::from_millis(2750)
    });
}

#[test]
fn a_panic_of_the_file_system_is_an_io_error_and_the_mount_goes_on() {
    let Some(here) = Here::start() else { return };
    for _ in 0..3 {
        assert_eq!(fs::metadata(here.path("broken")).unwrap_err().raw_os_error(), Some(libc::EIO));
    }
    assert_eq!(fs::read(here.path("file")).unwrap(), CONTENT);
}

#[test]
fn who_waits_can_be_interrupted() {
    let Some(here) = Here::start() else { return };
    let (mut reader, reply) = here.slow_reader();
    let unique = reply.unique();
    let pid = rustix::process::Pid::from_child(&reader);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    here.small.until_told(&format!("interrupt {unique}"));
    reply.error(libc::EINTR);
    assert!(!reader.wait().unwrap().success());
    // Once answered with ENOSYS the kernel would never send another one.
    let (mut reader, reply) = here.slow_reader();
    let pid = rustix::process::Pid::from_child(&reader);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    here.small.until_told(&format!("interrupt {}", reply.unique()));
    drop(reply);
    reader.wait().unwrap();
}

#[test]
fn what_was_not_answered_can_be_asked_for_again() {
    let Some(here) = Here::start() else { return };
    let (reader, lost) = here.slow_reader();
    here.session.notifier().resend().unwrap();
    let (reply, again) = here.small.until(|seen| seen.waiting.pop());
    assert!(again && reply.unique() != lost.unique());
    // Of a process that is gone, say: the kernel knows that number no more.
    lost.data(b"late");
    reply.data(b"in time");
    let (reply, _) = here.small.until(|seen| seen.waiting.pop());
    reply.data(b"");
    assert_eq!(reader.wait_with_output().unwrap().stdout, b"in time");
}

#[test]
fn a_new_epoch_has_every_name_looked_up_again() {
    let Some(here) = Here::start() else { return };
    let look = || {
        fs::symlink_metadata(here.path("file")).unwrap();
        here.small.count("lookup")
    };
    let first = look();
    assert_eq!(look(), first, "the kernel remembers the name");
    match here.session.notifier().epoch() {
        Ok(()) => assert_eq!(look(), first + 1),
        Err(error) => println!("skipped: this kernel knows no epochs ({error})"),
    }
}

#[test]
fn names_and_bytes_can_be_taken_from_the_kernel() {
    let Some(here) = Here::start() else { return };
    let notifier = here.session.notifier();
    let look = || {
        fs::symlink_metadata(here.path("file")).unwrap();
        here.small.count("lookup")
    };
    let first = look();
    notifier.inval_entry(ROOT_INODE, b"file", true).unwrap();
    assert_eq!(look(), first + 1);
    notifier.inval_entry(ROOT_INODE, b"file", false).unwrap();
    assert_eq!(look(), first + 2);
    notifier.delete(ROOT_INODE, FILE, b"file").unwrap();
    assert_eq!(look(), first + 3);
    for unknown in [notifier.inval_entry(ROOT_INODE, b"none", false), notifier.inval_inode(77, 0, 0)] {
        unknown.unwrap();
    }
    let mut file = File::open(here.path("file")).unwrap();
    let stored = CONTENT.to_ascii_uppercase();
    notifier.store(FILE, 0, &stored).unwrap();
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    assert_eq!(read, stored);
    notifier.inval_inode(FILE, 0, 0).unwrap();
    notifier.inval_attributes(FILE).unwrap();
    let mut read = Vec::new();
    File::open(here.path("file")).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, CONTENT);
}

#[test]
fn flock_and_fcntl_locks_can_be_told_apart() {
    let Some(here) = Here::start() else { return };
    let file = OpenOptions::new().read(true).write(true).open(here.path("file")).unwrap();
    file.lock().unwrap();
    here.small.until_told("lock flock=true wait=true kind=1");
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    here.small.until_told("lock flock=false wait=false kind=1");
}

#[test]
fn files_without_a_name_can_be_made() {
    let Some(here) = Here::start() else { return };
    let file = OpenOptions::new().write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(&here.dir).unwrap();
    here.small.until_told("file without a name, 100600");
    drop(file);
}

#[test]
fn a_mebibyte_is_written_in_one_request() {
    let Some(here) = Here::start() else { return };
    fs::write(here.path("file"), vec![7u8; 1 << 20]).unwrap();
    here.small.until_told("write of 1048576");
}

#[test]
fn unmounting_leaves_alone_what_others_mounted_at_that_place_since() {
    let Some(mut here) = Here::start() else { return };
    let path = CString::new(here.dir.to_str().unwrap()).unwrap();
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    assert_eq!(unsafe { libc::umount2(path.as_ptr(), 0) }, 0, "{}", io::Error::last_os_error());
    here.small.until_told("destroyed");
    let other = mount(&here.dir, &MountOptions { source: "other".to_string(), ..MountOptions::default() }).unwrap();
    drop(here.mounted.take());
    assert!(shown(&here.dir).unwrap().starts_with("other "));
    other.unmount(Way::Unused, PATIENCE).unwrap();
}

#[test]
fn a_mount_in_use_is_not_taken_out_of_the_tree() {
    let Some(here) = Here::start() else { return };
    let file = File::open(here.path("file")).unwrap();
    let mounted = here.mounted.as_ref().unwrap();
    let busy = mounted.unmount(Way::Unused, PATIENCE).unwrap_err();
    assert!(busy.to_string().contains("busy"), "{busy}");
    assert!(shown(&here.dir).is_some() && here.session.device().is_connected());
    mounted.unmount(Way::Lazily, PATIENCE).unwrap();
    assert!(shown(&here.dir).is_none() && here.session.device().is_connected(), "it lives as long as the file");
    drop(file);
    here.small.until_told("destroyed");
}
