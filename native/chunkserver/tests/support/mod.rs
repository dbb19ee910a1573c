//! Shared by the tests: real chunkservers in temporary directories, a client that speaks frames, and a fake master.
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::time::Deadline;
use base::{Buffer, Result, crc};
use chunkserver::{ChunkServer, ChunkServerConfig, DirectIo};
use tempfile::TempDir;
use wire::proto::*;
use wire::{Link, LinkConfig, Method};

pub mod master;

pub const CLUSTER: &str = "cluster-of-the-tests";
/// Nothing listens there.
pub const NO_MASTER: &str = "127.0.0.1:1";

pub fn config(server_id: u32, disk: &Path) -> ChunkServerConfig {
    ChunkServerConfig {
        cluster_id: CLUSTER.to_string(),
        server_id,
        masters: vec![NO_MASTER.to_string()],
        listen: "127.0.0.1:0".to_string(),
        advertise: String::new(),
        disks: vec![disk.to_path_buf()],
        heartbeat_ms: 100,
        direct_io: DirectIo::Off,
        reserve_bytes: 1 << 20,
        scrub_mb_s: 0,
        payload_budget_bytes: 160 << 20,
    }
}

pub struct Running {
    pub server: Arc<ChunkServer>,
    pub disk: TempDir,
    pub link: Arc<Link>,
}

impl Running {
    pub async fn start(server_id: u32) -> Running {
        let disk = tempfile::tempdir().unwrap();
        let server = ChunkServer::start(config(server_id, disk.path())).await.unwrap();
        let link = client(&server.address()).await.unwrap();
        Running { server, disk, link }
    }

    pub fn replica(&self) -> Replica {
        let server_id = self.server.status()["server_id"].as_u64().unwrap() as u32;
        Replica { server_id, address: self.server.address() }
    }

    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let metrics = self.server.metrics();
        let fits = |labels: &[(&str, String)]| label.is_empty() || labels.iter().any(|(_, value)| value == label);
        metrics.iter().find(|(n, labels, _)| *n == name && fits(labels)).map(|(_, _, value)| *value).unwrap()
    }
}

pub fn hello(cluster_id: &str, role: Role, node_id: u32) -> Hello {
    Hello {
        cluster_id: cluster_id.to_string(),
        role: role as i32,
        node_id,
        name: "test".to_string(),
        ..wire::link::hello()
    }
}

pub async fn client(address: &str) -> Result<Arc<Link>> {
    client_of(address, CLUSTER).await
}

pub async fn client_of(address: &str, cluster_id: &str) -> Result<Arc<Link>> {
    let hello = hello(cluster_id, Role::Client, 0);
    Link::connect(address, &LinkConfig { hello, connect_timeout: Duration::from_secs(2) }).await
}

pub fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

pub fn chunk(id: u64, version: u32) -> Option<ChunkRef> {
    Some(ChunkRef { id, version })
}

/// Bytes that differ from block to block and from seed to seed.
pub fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut step = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..length).map(|_| step()).collect()
}

pub struct Write<'a> {
    pub chunk: Option<ChunkRef>,
    pub offset: u32,
    pub data: &'a [u8],
    pub create: bool,
    pub chain: Vec<Replica>,
    pub sync: bool,
}

pub async fn write(link: &Link, write: Write<'_>) -> Result<Vec<Stamp>> {
    let message = ChunkWrite {
        chunk: write.chunk,
        offset: write.offset,
        length: write.data.len() as u32,
        crcs: crc::piece_crcs(write.offset as usize, write.data),
        create: write.create,
        chain: write.chain,
        writer: 0,
        round: 0,
        sync: write.sync,
    };
    let payload = Arc::new(Buffer::copy_of(write.data));
    let reply = link.call(Method::ChunkWrite, &message, Some(payload), deadline()).await?;
    Ok(reply.decode::<ChunkWriteReply>()?.stamps)
}

/// The bytes asked for, after checking the whole blocks that came.
pub async fn read(link: &Link, chunk: Option<ChunkRef>, offset: u32, length: u32) -> Result<Vec<u8>> {
    let message = ChunkRead { chunk, offset, length };
    let answer = link.call(Method::ChunkRead, &message, None, deadline()).await?;
    let reply: ChunkReadReply = answer.decode()?;
    let data = answer.payload.expect("a read has a payload");
    assert_eq!(reply.length as usize, data.len());
    assert_eq!(reply.offset % 4096, 0);
    assert_eq!(crc::check_pieces(reply.offset as usize, &data, &reply.crcs), Ok(()));
    let skip = (offset - reply.offset) as usize;
    Ok(data[skip..skip + length as usize].to_vec())
}

pub async fn sync(link: &Link, chunk: Option<ChunkRef>, boot_id: u64) -> Result<Stamp> {
    let message = ChunkSync { chunk, boot_id };
    let reply = link.call(Method::ChunkSync, &message, None, deadline()).await?;
    Ok(reply.decode::<ChunkSyncReply>()?.stamp.expect("a sync has a stamp"))
}

pub async fn map(link: &Link, chunk: Option<ChunkRef>, fence: bool) -> Result<ChunkMapReply> {
    let message = ChunkMap { chunk, fence };
    link.call(Method::ChunkMap, &message, None, deadline()).await?.decode()
}

pub async fn trim(link: &Link, chunk: Option<ChunkRef>, length: u32, chain: Vec<Replica>) -> Result<Vec<Stamp>> {
    let message = ChunkTrim { chunk, length, chain };
    let reply = link.call(Method::ChunkTrim, &message, None, deadline()).await?;
    Ok(reply.decode::<ChunkWriteReply>()?.stamps)
}

/// Wait until `what` holds; fails the test after ten seconds.
pub async fn until(sentence: &str, what: impl Fn() -> bool) {
    let deadline = deadline();
    while !what() {
        assert!(!deadline.passed(), "still not: {sentence}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Flip one byte where `needle` lies in a file below `folder`.
pub fn rot(folder: &Path, needle: &[u8]) {
    use std::os::unix::fs::FileExt;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
                return;
            }
        }
    }
    panic!("the bytes are in no file");
}

/// Says hello as server `server_id` would, then only swallows bytes.
#[allow(clippy::disallowed_types)] // No server of ours would.
pub async fn frozen_after_hello(server_id: u32) -> Replica {
    use prost::Message;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let asked = wire::frame::read_frame(&mut stream).await.unwrap().unwrap();
                let hello = hello(CLUSTER, Role::Chunkserver, server_id).encode_to_vec();
                let header = wire::frame::encode_header(wire::Kind::Reply, Method::Hello as u16, asked.id, &hello, 0);
                stream.write_all(&[&header[..], &hello].concat()).await.unwrap();
                let mut sink = vec![0; 1 << 16];
                while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    Replica { server_id, address }
}

/// A small file system in memory, mounted for one test; needs root, as the FUSE tests do.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    pub fn mount(mib: u32) -> SmallDisk {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "mounting a small tmpfs needs root");
        SmallDisk(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
