//! A double of a chunkserver: bytes in memory, chains as the real one, misbehaviour on demand.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use base::limits::BLOCK_BYTES;
use base::time::Deadline;
use base::{Buffer, Error, ErrorKind, Result, crc};
use parking_lot::Mutex;
use tokio::sync::watch;
use wire::proto::{
    self, ChunkRead, ChunkReadReply, ChunkSync, ChunkSyncReply, ChunkWrite, ChunkWriteReply, Hello, Stamp,
};
use wire::{Handler, LinkConfig, Links, Method, Request, Response, Server};

pub struct DoubleServer {
    id: u32,
    pub address: String,
    links: Links,
    chunks: Mutex<HashMap<u64, (u32, Vec<u8>)>>,
    pub boot_id: AtomicU64,
    /// This many reads are answered with a wrong byte.
    pub spoil: AtomicU32,
    /// This many writes are refused as damaged.
    pub refuse_writes: AtomicU32,
    pub delay_ms: AtomicU64,
    pub full: AtomicBool,
    paused: watch::Sender<bool>,
}

impl DoubleServer {
    /// Listens behind a relay, which can be paused: then bytes go in and nothing comes out.
    #[allow(clippy::disallowed_types)] // The relay knows nothing of frames.
    pub async fn start(id: u32) -> Arc<DoubleServer> {
        let server = Server::bind("127.0.0.1:0").await.unwrap();
        let inner = server.address().unwrap().to_string();
        let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = relay.local_addr().unwrap().to_string();
        let double = Arc::new(DoubleServer {
            id,
            address,
            links: Links::new(LinkConfig { hello: hello(id), connect_timeout: Duration::from_secs(1) }),
            chunks: Mutex::default(),
            boot_id: AtomicU64::new(u64::from(id)),
            spoil: AtomicU32::new(0),
            refuse_writes: AtomicU32::new(0),
            delay_ms: AtomicU64::new(0),
            full: AtomicBool::new(false),
            paused: watch::channel(false).0,
        });
        tokio::spawn(server.run(double.clone()));
        let paused = double.paused.clone();
        tokio::spawn(async move {
            while let Ok((outside, _)) = relay.accept().await {
                let (inner, mut paused) = (inner.clone(), paused.subscribe());
                tokio::spawn(async move {
                    drop(paused.wait_for(|paused| !paused).await);
                    let Ok(mut inside) = tokio::net::TcpStream::connect(inner).await else { return };
                    let mut outside = outside;
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut outside, &mut inside) => {}
                        _ = async { drop(paused.wait_for(|paused| *paused).await) } => std::future::pending().await,
                    }
                });
            }
        });
        double
    }

    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// As after a power cut: nothing that was not synced is there any more.
    pub fn start_anew(&self) {
        self.chunks.lock().clear();
        self.boot_id.store(999, SeqCst);
    }

    pub fn stored(&self, chunk: u64) -> Vec<u8> {
        self.chunks.lock().get(&chunk).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    fn stamp(&self) -> Stamp {
        Stamp { server_id: self.id, boot_id: self.boot_id.load(SeqCst), stored_bytes: 4096 }
    }

    async fn write(&self, request: Request) -> Result<Response> {
        let message: ChunkWrite = request.decode()?;
        let payload = Arc::new(request.payload.ok_or_else(|| Error::namespace(libc::EINVAL, "no bytes"))?);
        crc::check_pieces(message.offset as usize, &payload, &message.crcs)
            .map_err(|_| Error::integrity("bad bytes"))?;
        if take_one(&self.refuse_writes) {
            return Err(Error::integrity("damaged, as the test wants it"));
        }
        if self.full.load(SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, libc::ENOSPC, "the disk is full").with_failed(self.id));
        }
        let mut stamps = vec![self.stamp()];
        self.store(&message, &payload)?;
        if let Some((next, rest)) = message.chain.split_first() {
            let forward = ChunkWrite { chain: rest.to_vec(), ..message.clone() };
            let sent = async {
                let link = self.links.get(&next.address).await?;
                link.call(Method::ChunkWrite, &forward, Some(payload), Deadline::after(Duration::from_secs(2))).await
            };
            let reply = sent.await.map_err(|error| match error.failed_servers.is_empty() {
                true => error.with_failed(next.server_id),
                false => error,
            })?;
            stamps.extend(reply.decode::<ChunkWriteReply>()?.stamps);
        }
        Ok((&ChunkWriteReply { stamps }).into())
    }

    fn store(&self, message: &ChunkWrite, payload: &[u8]) -> Result<()> {
        let asked = message.chunk.unwrap_or_default();
        let mut chunks = self.chunks.lock();
        if !chunks.contains_key(&asked.id) && !message.create {
            return Err(Error::namespace(libc::ENOENT, "no such chunk").with_failed(self.id));
        }
        let (version, bytes) = chunks.entry(asked.id).or_default();
        if *version > asked.version {
            return Err(Error::stale("your map is old"));
        }
        *version = asked.version;
        let end = (message.offset + message.length) as usize;
        let whole = bytes.len().max(end.next_multiple_of(BLOCK_BYTES));
        bytes.resize(whole, 0);
        bytes[message.offset as usize..end].copy_from_slice(payload);
        Ok(())
    }

    fn read(&self, request: Request) -> Result<Response> {
        let message: ChunkRead = request.decode()?;
        let asked = message.chunk.unwrap_or_default();
        let chunks = self.chunks.lock();
        let (version, bytes) = chunks.get(&asked.id).ok_or_else(|| Error::namespace(libc::ENOENT, "no such chunk"))?;
        if *version > asked.version {
            return Err(Error::stale("your map is old"));
        }
        let from = message.offset as usize / BLOCK_BYTES * BLOCK_BYTES;
        let to = ((message.offset + message.length) as usize).next_multiple_of(BLOCK_BYTES);
        let mut data = Buffer::zeroed(to - from);
        let have = bytes.get(from..bytes.len().min(to)).unwrap_or(&[]);
        data[..have.len()].copy_from_slice(have);
        let crcs = crc::piece_crcs(from, &data);
        if take_one(&self.spoil) {
            data[100] ^= 1;
        }
        let reply = ChunkReadReply {
            offset: from as u32,
            length: data.len() as u32,
            crcs,
            version: *version,
            stored_bytes: 0,
            boot_id: self.boot_id.load(SeqCst),
        };
        Ok(Response { payload: Some(Arc::new(data)), ..Response::from(&reply) })
    }

    fn sync(&self, request: Request) -> Result<Response> {
        let message: ChunkSync = request.decode()?;
        if message.boot_id != self.boot_id.load(SeqCst) {
            return Err(Error::stale("started anew").with_failed(self.id).because(base::Reason::Restarted));
        }
        Ok((&ChunkSyncReply { stamp: Some(self.stamp()) }).into())
    }
}

fn take_one(count: &AtomicU32) -> bool {
    count.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn hello(node_id: u32) -> Hello {
    Hello {
        cluster_id: "double".into(),
        role: proto::Role::Chunkserver as i32,
        node_id,
        name: "double".into(),
        ..wire::link::hello()
    }
}

impl Handler for DoubleServer {
    fn hello(&self) -> Hello {
        hello(self.id)
    }

    async fn handle(self: Arc<Self>, request: Request) -> Result<Response> {
        let delay_ms = self.delay_ms.load(SeqCst);
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        match request.method {
            Method::ChunkWrite => self.write(request).await,
            Method::ChunkRead => self.read(request),
            Method::ChunkSync => self.sync(request),
            other => Err(Error::namespace(libc::EOPNOTSUPP, format!("{other:?} is not doubled"))),
        }
    }
}
