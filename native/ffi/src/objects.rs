//! What handles stand for: nodes, clients, a chunk store, a name space. A handle is a number that is never used twice,
//! so one that was closed is an error and not a dangling pointer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base::time::Deadline;
use base::{Error, Result};
use chunk::{DirectIo, Store, StoreConfig};
use chunkserver::{ChunkServer, ChunkServerConfig};
use client::{ClientConfig, Engine};
use fuse::{Mount, MountConfig};
use master::{Master, MasterConfig};
use meta::State;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wire::proto::Hello;
use wire::{Link, LinkConfig};

use crate::{files, roles};

type Metric = (&'static str, Vec<(&'static str, String)>, f64);

#[derive(Clone)]
pub enum Object {
    Master(Arc<Master>),
    ChunkServer(Arc<ChunkServer>),
    Client(Arc<Engine>),
    Mount(Arc<Engine>, Arc<Mount>),
    Store(Arc<Store>),
    NameSpace(Arc<Mutex<State>>),
    /// A connection to one daemon, without a session, and how long it may take to answer.
    Link(Arc<Link>, Duration),
}

static OBJECTS: LazyLock<Mutex<HashMap<u64, Object>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Make what `role` names. Returns with the object at work, or with the reason why not.
pub async fn start(role: u32, config: Vec<u8>) -> Result<Object> {
    match role {
        roles::MASTER => Ok(Object::Master(Master::start(parse("master", &config)?).await?)),
        roles::CHUNKSERVER => Ok(Object::ChunkServer(ChunkServer::start(parse("chunkserver", &config)?).await?)),
        roles::CLIENT => Ok(Object::Client(Engine::connect(parse("client", &config)?).await?)),
        roles::MOUNT => {
            let (client, mount) = mount_configs(&config)?;
            let engine = Engine::connect(client).await?;
            match Mount::start(engine.clone(), tokio::runtime::Handle::current(), mount).await {
                Ok(mount) => Ok(Object::Mount(engine, Arc::new(mount))),
                Err(error) => {
                    engine.close().await;
                    Err(error)
                }
            }
        }
        roles::STORE => {
            let config: StoreStart = parse("chunk store", &config)?;
            let opened = tokio::task::spawn_blocking(move || Store::open(config.into())).await;
            let store = opened.map_err(|_| Error::namespace(libc::ENOTRECOVERABLE, "opening the store panicked"))?;
            Ok(Object::Store(Arc::new(store?)))
        }
        roles::NAME_SPACE => {
            let NoSettings {} = parse("name space", &config)?;
            Ok(Object::NameSpace(Arc::new(Mutex::new(State::new()))))
        }
        roles::LINK => {
            let LinkStart { address, timeout_ms } = parse("link", &config)?;
            let timeout = Duration::from_millis(timeout_ms);
            let hello = Hello { name: "mooseng".to_string(), ..wire::link::hello() };
            let link = Link::connect(&address, &LinkConfig { hello, connect_timeout: timeout }).await?;
            Ok(Object::Link(link, timeout))
        }
        _ => Err(Error::namespace(libc::EINVAL, format!("role {role} is not one of this library"))),
    }
}

/// Refuse what `start` refuses of a node's or a client's configuration alone. Opens nothing.
pub fn check(role: u32, config: &[u8]) -> Result<()> {
    match role {
        roles::MASTER => parse::<MasterConfig>("master", config)?.check(),
        roles::CHUNKSERVER => parse::<ChunkServerConfig>("chunkserver", config)?.check(),
        roles::CLIENT => parse::<ClientConfig>("client", config)?.check(),
        roles::MOUNT => {
            let (client, mount) = mount_configs(config)?;
            client.check()?;
            mount.check()
        }
        _ => Err(Error::namespace(libc::EINVAL, format!("role {role} has no settings to check"))),
    }
}

/// Keep `object` until `remove`; -> its handle.
pub fn insert(object: Object) -> i64 {
    let handle = NEXT.fetch_add(1, Ordering::Relaxed);
    OBJECTS.lock().insert(handle, object);
    handle as i64
}

pub fn get(handle: u64) -> Result<Object> {
    OBJECTS.lock().get(&handle).cloned().ok_or_else(|| closed(handle))
}

pub fn remove(handle: u64) -> Result<Object> {
    OBJECTS.lock().remove(&handle).ok_or_else(|| closed(handle))
}

fn closed(handle: u64) -> Error {
    Error::namespace(libc::EBADF, format!("handle {handle} is closed or was never given"))
}

fn wrong(what: &str) -> Error {
    Error::namespace(libc::EINVAL, format!("this handle is not {what}"))
}

impl Object {
    /// End it: what it can make safe is safe when this returns.
    pub async fn stop(self, timeout: Duration) -> Result<()> {
        let stop = async move {
            match self {
                Object::Master(master) => master.stop().await,
                Object::ChunkServer(server) => server.stop().await,
                Object::Client(engine) => engine.close().await,
                Object::Mount(engine, mount) => {
                    let stopped = mount.stop().await;
                    engine.close().await;
                    return stopped;
                }
                Object::Store(_) | Object::NameSpace(_) | Object::Link(..) => {}
            }
            Ok(())
        };
        let late =
            || Error::new(base::ErrorKind::Unavailable, libc::ETIMEDOUT, format!("not stopped within {timeout:?}"));
        tokio::time::timeout(timeout, stop).await.unwrap_or_else(|_| Err(late()))
    }

    /// One request: `message` in, a reply out, both encoded. What `method` means is the object's.
    pub async fn call(self, method: u16, message: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Object::Master(master) => master.call(method, &message).await,
            Object::Client(engine) | Object::Mount(engine, _) if method == wire::Method::Name as u16 => {
                files::name(engine, message).await
            }
            Object::Link(link, timeout) => {
                let method = wire::Method::try_from(method)?;
                let reply = link.call_raw(method, &message, None, Deadline::after(timeout)).await?;
                Ok(reply.message.to_vec())
            }
            Object::NameSpace(state) if method == roles::APPLY => state.lock().apply_bytes(&message),
            Object::NameSpace(state) if method == roles::QUERY => state.lock().query_bytes(&message),
            _ => Err(Error::namespace(libc::EOPNOTSUPP, format!("this handle has no method {method}"))),
        }
    }

    /// `{"status": {...}, "metrics": [[name, [[label, value], ...], number], ...]}`
    pub fn status(&self) -> Value {
        let (status, metrics): (Value, Vec<Metric>) = match self {
            Object::Master(master) => (master.status(), master.metrics()),
            Object::ChunkServer(server) => (server.status(), server.metrics()),
            Object::Client(engine) => (engine.status(), engine.metrics()),
            Object::Mount(engine, mount) => {
                let status = json!({"client": engine.status(), "mount": mount.status()});
                (status, [engine.metrics(), mount.metrics()].concat())
            }
            Object::Store(store) => (store_status(store), Vec::new()),
            Object::Link(link, _) => (json!({"address": link.address(), "closed": link.is_closed()}), Vec::new()),
            Object::NameSpace(state) => (json!({"memory_bytes": state.lock().memory_bytes()}), Vec::new()),
        };
        json!({"status": status, "metrics": metrics})
    }

    pub fn engine(self) -> Result<Arc<Engine>> {
        if let Object::Client(engine) = self { Ok(engine) } else { Err(wrong("a client")) }
    }

    pub fn store(self) -> Result<Arc<Store>> {
        if let Object::Store(store) = self { Ok(store) } else { Err(wrong("a chunk store")) }
    }
}

fn store_status(store: &Store) -> Value {
    let disks = store.disks().into_iter().map(|disk| {
        json!({"path": disk.path.display().to_string(), "free_bytes": disk.free_bytes, "direct_io": disk.direct_io})
    });
    json!({"disks": disks.collect::<Vec<_>>(), "chunks": store.inventory().len()})
}

fn parse<T: DeserializeOwned>(what: &str, config: &[u8]) -> Result<T> {
    serde_json::from_slice(config)
        .map_err(|error| Error::namespace(libc::EINVAL, format!("the configuration of a {what} is refused: {error}")))
}

/// A mount is configured as a client, with a few settings more.
fn mount_configs(config: &[u8]) -> Result<(ClientConfig, MountConfig)> {
    let refuse = |why: &str| Error::namespace(libc::EINVAL, format!("the configuration of a mount is refused: {why}"));
    let mut config: serde_json::Map<String, Value> = parse("mount", config)?;
    let mut switch = |name: &str, default: bool| match config.remove(name).unwrap_or(Value::Bool(default)) {
        Value::Bool(on) => Ok(on),
        _ => Err(refuse(&format!("{name} must be true or false"))),
    };
    let (allow_other, account_groups) = (switch("allow_other", true)?, switch("account_groups", false)?);
    let threads = config.remove("threads").unwrap_or(json!(fuse::default_threads())).as_u64();
    let threads = threads.and_then(|threads| usize::try_from(threads).ok());
    let client: ClientConfig =
        serde_json::from_value(Value::Object(config)).map_err(|error| refuse(&error.to_string()))?;
    if client.mount_point.is_empty() {
        return Err(refuse("mount_point is missing"));
    }
    let mount = MountConfig {
        mount_point: client.mount_point.clone().into(),
        allow_other,
        account_groups,
        threads: threads.ok_or_else(|| refuse("threads must be a number from 1"))?,
        fs_name: "mooseng".to_string(),
    };
    Ok((client, mount))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoSettings {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkStart {
    address: String,
    timeout_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreStart {
    disks: Vec<PathBuf>,
    server_id: u32,
    cluster_id: String,
    #[serde(default)]
    direct_io: chunkserver::DirectIo,
    #[serde(default)]
    reserve_bytes: u64,
}

impl From<StoreStart> for StoreConfig {
    fn from(start: StoreStart) -> StoreConfig {
        let direct_io = match start.direct_io {
            chunkserver::DirectIo::Auto => DirectIo::Auto,
            chunkserver::DirectIo::On => DirectIo::On,
            chunkserver::DirectIo::Off => DirectIo::Off,
        };
        StoreConfig {
            disks: start.disks,
            server_id: start.server_id,
            cluster_id: start.cluster_id,
            direct_io,
            reserve_bytes: start.reserve_bytes,
        }
    }
}
