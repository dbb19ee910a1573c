//! Snapshot files: written beside, checked whole, put in place by a rename; the newest two are kept.
//! Layout: FORMAT.md, "Raft log". Knows nothing of what a snapshot means.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Error, Result, crc};
use parking_lot::Mutex;
use prost::Message;
use wire::proto;

use crate::files::{random_bytes, rename, sync, sync_directory};
use crate::types::{
    LogId, SnapshotMeta, StoredMembers, log_id_from_proto, log_id_to_proto, members_from_proto, members_to_proto,
    term_of,
};

const MAGIC: &[u8; 8] = b"MNGRSNP1";
/// Bytes of state between two checksums.
const PIECE_BYTES: usize = 1 << 20;
const MAX_HEAD_BYTES: usize = 1 << 20;
/// Snapshots kept: the second is for a reader of it, and for a newest one that turns out unreadable.
const KEPT: usize = 2;

/// One snapshot, open: it stays readable after its name is gone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub meta: SnapshotMeta,
    pub file: Arc<File>,
    pub path: PathBuf,
    pub bytes: u64,
}

/// The folder of snapshots. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Snapshots {
    folder: PathBuf,
    cluster_id: String,
    newest: Arc<Mutex<Option<Snapshot>>>,
}

impl Snapshots {
    /// Find the newest readable snapshot; others stay where they are.
    pub fn open(folder: PathBuf, cluster_id: &str) -> Result<Snapshots> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("tmp") => std::fs::remove_file(&path)?,
                Some("snapshot") => names.push(path),
                _ => {}
            }
        }
        // A name that was given just before a kill is durable before the log is judged by it.
        sync_directory(&folder)?;
        names.sort();
        let snapshots = Snapshots { folder, cluster_id: cluster_id.to_string(), newest: Arc::new(Mutex::new(None)) };
        for path in names.into_iter().rev() {
            match snapshots.check(&path) {
                Ok(snapshot) => {
                    *snapshots.newest.lock() = Some(snapshot);
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "a snapshot is unreadable and is not used");
                    std::fs::rename(&path, path.with_extension("damaged"))?;
                }
            }
        }
        Ok(snapshots)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn newest(&self) -> Option<Snapshot> {
        self.newest.lock().clone()
    }

    /// A file to receive into; it counts for nothing until `install`.
    pub fn receive(&self) -> Result<(File, PathBuf)> {
        let name = u64::from_le_bytes(random_bytes()?);
        let path = self.folder.join(format!("{name:016x}.tmp"));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok((file, path))
    }

    /// Write the state that `write` gives, and make it the newest snapshot.
    pub fn build(&self, meta: &SnapshotMeta, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Snapshot> {
        let (file, path) = self.receive()?;
        let outcome = (|| {
            let mut out = PieceWriter::start(io::BufWriter::with_capacity(1 << 18, &file), &self.cluster_id, meta)?;
            write(&mut out)?;
            out.finish()
        })();
        if let Err(error) = outcome {
            let _ = std::fs::remove_file(&path);
            return Err(Error::from(error).context(format!("writing a snapshot to {}", self.folder.display())));
        }
        self.accept(&path)
    }

    /// Make a snapshot that was received the newest; one that is in place already stays as it is.
    pub fn install(&self, snapshot: Snapshot) -> Result<Snapshot> {
        if snapshot.path.parent() != Some(&self.folder) {
            let (mut copy, path) = self.receive()?;
            io::copy(&mut File::open(&snapshot.path)?, &mut copy)?;
            return self.accept(&path);
        }
        if snapshot.path.extension().is_some_and(|extension| extension == "tmp") {
            return self.accept(&snapshot.path);
        }
        Ok(snapshot)
    }

    /// Check a complete file, make it durable and the newest.
    fn accept(&self, temporary: &Path) -> Result<Snapshot> {
        let outcome = (|| {
            let mut snapshot = self.check(temporary)?;
            sync(&snapshot.file)?;
            let last = snapshot.meta.last_log_id;
            let path = self.folder.join(file_name(last.as_ref()));
            rename(temporary, &path)?;
            sync_directory(&self.folder)?;
            snapshot.path = path;
            Ok(snapshot)
        })();
        let snapshot = outcome.inspect_err(|_: &Error| {
            let _ = std::fs::remove_file(temporary);
        })?;
        {
            let mut newest = self.newest.lock();
            if newest.as_ref().is_none_or(|newest| newest.meta.last_log_id <= snapshot.meta.last_log_id) {
                *newest = Some(snapshot.clone());
            }
        }
        self.drop_old();
        Ok(snapshot)
    }

    fn drop_old(&self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        let mut names: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "snapshot"))
            .collect();
        names.sort();
        for path in names.iter().rev().skip(KEPT) {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(%error, "{} could not be removed", path.display());
            }
        }
    }

    /// Read all of a file and check every checksum.
    pub fn check(&self, path: &Path) -> Result<Snapshot> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let name = |error: Error| error.context(path.display());
        let mut reader = PieceReader::start(&file).map_err(name)?;
        if reader.head.cluster_id != self.cluster_id {
            return Err(name(Error::integrity(format!("it is of cluster {:?}", reader.head.cluster_id))));
        }
        let meta = meta_from_head(&reader.head).map_err(name)?;
        io::copy(&mut reader, &mut io::sink()).map_err(|error| name(Error::integrity(error.to_string())))?;
        if reader.end != bytes {
            return Err(name(Error::integrity("bytes follow its end")));
        }
        Ok(Snapshot { meta, file: Arc::new(file), path: path.to_path_buf(), bytes })
    }
}

impl Snapshot {
    /// The state in it, each piece checked before it is handed out.
    pub fn reader(&self) -> Result<impl Read + '_> {
        PieceReader::start(&self.file)
    }

    /// Raw bytes of the file, to send it on.
    pub fn read_at(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(target, offset)
    }
}

/// Names sort by index.
fn file_name(last: Option<&LogId>) -> String {
    format!("{:020}-{}.snapshot", last.map_or(0, |id| id.index), last.map_or(0, term_of))
}

fn meta_from_head(head: &proto::SnapshotHead) -> Result<SnapshotMeta> {
    let members = members_from_proto(head.members.clone().unwrap_or_default())?;
    Ok(SnapshotMeta {
        last_log_id: head.last.map(log_id_from_proto),
        last_membership: StoredMembers::new(head.members_at.map(log_id_from_proto), members),
    })
}

/// Magic, length of the head, head, CRC of all of it; pieces of (length, CRC bound to its position, bytes); a piece of
/// length 0 whose CRC covers the total.
struct PieceWriter<W: Write> {
    out: W,
    piece: Vec<u8>,
    head_crc: u32,
    position: u64,
}

fn piece_crc(head_crc: u32, position: u64, piece: &[u8]) -> u32 {
    let mut bound = [0u8; 12];
    bound[..4].copy_from_slice(&head_crc.to_le_bytes());
    bound[4..].copy_from_slice(&position.to_le_bytes());
    crc::crc32c_of(&[&bound, piece])
}

impl<W: Write> PieceWriter<W> {
    fn start(mut out: W, cluster_id: &str, meta: &SnapshotMeta) -> io::Result<PieceWriter<W>> {
        let head = proto::SnapshotHead {
            cluster_id: cluster_id.to_string(),
            last: meta.last_log_id.as_ref().map(log_id_to_proto),
            members_at: meta.last_membership.log_id().as_ref().map(log_id_to_proto),
            members: Some(members_to_proto(meta.last_membership.membership())),
        }
        .encode_to_vec();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(head.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&head);
        // A few random bytes tell apart two snapshots of one position, so pieces of both never mix.
        bytes.extend_from_slice(&random_bytes::<8>()?);
        let head_crc = crc::crc32c(&bytes);
        out.write_all(&bytes)?;
        out.write_all(&head_crc.to_le_bytes())?;
        Ok(PieceWriter { out, piece: Vec::with_capacity(PIECE_BYTES), head_crc, position: 0 })
    }

    fn end_piece(&mut self) -> io::Result<()> {
        self.out.write_all(&(self.piece.len() as u32).to_le_bytes())?;
        self.out.write_all(&piece_crc(self.head_crc, self.position, &self.piece).to_le_bytes())?;
        self.out.write_all(&self.piece)?;
        self.position += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.piece.is_empty() {
            self.end_piece()?;
        }
        self.end_piece()?;
        self.out.flush()
    }
}

impl<W: Write> Write for PieceWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.end_piece()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PieceReader<'a> {
    file: &'a File,
    head: proto::SnapshotHead,
    head_crc: u32,
    piece: Vec<u8>,
    taken: usize,
    position: u64,
    /// Offset of the next piece; of the file's end once it is reached.
    end: u64,
    done: bool,
}

fn torn(what: &str) -> Error {
    Error::integrity(format!("the snapshot is damaged or incomplete: {what}"))
}

impl<'a> PieceReader<'a> {
    fn start(file: &'a File) -> Result<PieceReader<'a>> {
        let mut fixed = [0u8; 12];
        file.read_exact_at(&mut fixed, 0).map_err(|_| torn("it has no head"))?;
        let length = u32::from_le_bytes(fixed[8..].try_into().expect("4 bytes")) as usize;
        if &fixed[..8] != MAGIC || length > MAX_HEAD_BYTES {
            return Err(torn("its head is not one"));
        }
        let mut bytes = vec![0u8; 12 + length + 8 + 4];
        file.read_exact_at(&mut bytes, 0).map_err(|_| torn("its head is cut"))?;
        let (covered, crc) = bytes.split_at(12 + length + 8);
        let head_crc = crc::crc32c(covered);
        if head_crc.to_le_bytes() != crc {
            return Err(torn("its head has a wrong checksum"));
        }
        let head = proto::SnapshotHead::decode(&covered[12..12 + length]).map_err(|_| torn("its head is not one"))?;
        let end = bytes.len() as u64;
        Ok(PieceReader { file, head, head_crc, piece: Vec::new(), taken: 0, position: 0, end, done: false })
    }

    fn next_piece(&mut self) -> Result<()> {
        let mut fixed = [0u8; 8];
        self.file.read_exact_at(&mut fixed, self.end).map_err(|_| torn("it is cut"))?;
        let length = u32::from_le_bytes(fixed[..4].try_into().expect("4 bytes")) as usize;
        if length > PIECE_BYTES {
            return Err(torn("a piece is too long"));
        }
        self.piece.resize(length, 0);
        self.file.read_exact_at(&mut self.piece, self.end + 8).map_err(|_| torn("a piece is cut"))?;
        if piece_crc(self.head_crc, self.position, &self.piece).to_le_bytes() != fixed[4..] {
            return Err(torn("a piece has a wrong checksum"));
        }
        self.position += length as u64;
        self.end += 8 + length as u64;
        (self.taken, self.done) = (0, length == 0);
        Ok(())
    }
}

impl Read for PieceReader<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() && !self.done {
            self.next_piece().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.message))?;
        }
        let count = target.len().min(self.piece.len() - self.taken);
        target[..count].copy_from_slice(&self.piece[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power_cut;
    use crate::types::{Members, Node, log_id};
    use std::collections::{BTreeMap, BTreeSet};

    fn meta(index: u64) -> SnapshotMeta {
        let nodes = BTreeMap::from([(1u64, Node { address: "a:1".into(), incarnation: 7 })]);
        let members = Members::new(vec![BTreeSet::from([1])], nodes).unwrap();
        SnapshotMeta {
            last_log_id: Some(log_id(3, index)),
            last_membership: StoredMembers::new(Some(log_id(1, 2)), members),
        }
    }

    fn state(snapshot: &Snapshot) -> Vec<u8> {
        let mut bytes = Vec::new();
        snapshot.reader().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_snapshot_comes_back_with_its_metadata_and_only_two_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path().to_path_buf(), "c").unwrap();
        let content: Vec<u8> = (0..3 * PIECE_BYTES + 17).map(|at| at as u8).collect();
        for index in [5, 6, 7] {
            snapshots.build(&meta(index), |out| out.write_all(&content)).unwrap();
        }
        let again = Snapshots::open(directory.path().to_path_buf(), "c").unwrap().newest().unwrap();
        assert_eq!((again.meta.clone(), state(&again)), (meta(7), content));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_cut_or_a_flipped_byte_at_any_offset_leaves_the_former_snapshot() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path().to_path_buf(), "c").unwrap();
        snapshots.build(&meta(5), |out| out.write_all(b"former")).unwrap();
        let newer = snapshots.build(&meta(6), |out| out.write_all(b"the newer state")).unwrap();
        let whole = std::fs::read(&newer.path).unwrap();
        for at in 0..whole.len() {
            for broken in [whole[..at].to_vec(), flipped(&whole, at)] {
                std::fs::write(&newer.path, &broken).unwrap();
                let reopened = Snapshots::open(directory.path().to_path_buf(), "c").unwrap().newest().unwrap();
                assert_eq!(reopened.meta, meta(5), "at {at}");
                std::fs::rename(newer.path.with_extension("damaged"), &newer.path).unwrap();
            }
        }
    }

    fn flipped(whole: &[u8], at: usize) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x10;
        bytes
    }

    #[test]
    fn a_power_cut_at_any_sync_or_name_leaves_the_newest_snapshot_that_was_told() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let disk = power_cut::watch(directory.path());
        let snapshots = Snapshots::open(directory.path().to_path_buf(), "c").unwrap();
        let build =
            |snapshots: &Snapshots, index| snapshots.build(&meta(index), |out| out.write_all(&[7; 9000])).unwrap();
        for index in [5, 6, 7] {
            build(&snapshots, index);
            disk.tell(index);
        }
        let theirs = Snapshots::open(elsewhere.path().to_path_buf(), "c").unwrap();
        snapshots.install(build(&theirs, 9)).unwrap();
        disk.tell(9);
        for image in disk.images() {
            let found = image.restored();
            let newest = Snapshots::open(found.path().to_path_buf(), "c").unwrap().newest();
            let reached = newest.and_then(|newest| newest.meta.last_log_id).map_or(0, |last| last.index);
            assert!(reached >= image.told, "with {}: {reached} instead of {}", image.what, image.told);
        }
    }

    #[test]
    fn what_was_left_half_written_is_removed_and_never_used() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path().to_path_buf(), "c").unwrap();
        snapshots.build(&meta(5), |out| out.write_all(b"former")).unwrap();
        let failed = snapshots.build(&meta(6), |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("the writer died"))
        });
        assert!(failed.is_err());
        std::fs::write(directory.path().join("0001.tmp"), b"MNGRSNP1").unwrap();
        let reopened = Snapshots::open(directory.path().to_path_buf(), "c").unwrap();
        assert_eq!(reopened.newest().unwrap().meta, meta(5));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
