//! Both ends of a connection in one process: what is pushed, what a hello may hold.

use std::sync::Arc;
use std::time::Duration;

use base::time::Deadline;
use base::{Error, Result};
use prost::Message;
use wire::proto::{ChunkRef, Hello, Role};
use wire::{Frame, Handler, Link, LinkConfig, Links, Method, Request, Response, Server};

const PATIENCE: Duration = Duration::from_secs(10);

fn hello() -> Hello {
    wire::link::hello()
}

fn config() -> LinkConfig {
    LinkConfig { hello: hello(), connect_timeout: PATIENCE }
}

/// Pushes as many commands as a request has bytes, then answers.
struct Pusher;

impl Handler for Pusher {
    fn hello(&self) -> Hello {
        Hello { role: Role::Master as i32, node_id: 2, ..hello() }
    }

    async fn handle(self: Arc<Self>, request: Request) -> Result<Response> {
        for number in 0..request.message.len() as u64 {
            let chunk = ChunkRef { id: number, version: 1 };
            request.peer.push(Method::ServerCommand, &chunk).await?;
        }
        Ok(Response::default())
    }
}

async fn served() -> String {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.address().unwrap().to_string();
    tokio::spawn(server.run(Arc::new(Pusher)));
    address
}

async fn ask_for(link: &Link, pushes: usize) -> Result<()> {
    link.call_raw(Method::Name, &vec![0; pushes], None, Deadline::after(PATIENCE)).await.map(drop)
}

fn number(frame: &Frame) -> u64 {
    ChunkRef::decode(&frame.message[..]).unwrap().id
}

#[tokio::test]
async fn what_is_pushed_is_kept_for_whoever_holds_the_connection() {
    let links = Links::new(config());
    let link = links.get(&served().await).await.unwrap();
    // Nobody takes them yet, and answers come all the same.
    ask_for(&link, 3).await.unwrap();
    ask_for(&link, 0).await.unwrap();
    for expected in 0..3 {
        let frame = tokio::time::timeout(PATIENCE, link.pushed()).await.unwrap().unwrap();
        assert_eq!((frame.method, number(&frame)), (Method::ServerCommand as u16, expected));
    }
    assert!(tokio::time::timeout(Duration::from_millis(20), link.pushed()).await.is_err(), "there is no fourth");
}

#[tokio::test]
async fn a_connection_whose_pushes_nobody_takes_is_ended_and_says_so() {
    let link = Link::connect(&served().await, &config()).await.unwrap();
    let error = ask_for(&link, 5000).await.unwrap_err();
    assert!(error.message.contains("were pushed and not taken"), "{error}");
    link.closed().await;
    // Those that were kept are still there, in order, and then the end.
    let mut kept = 0;
    while let Some(frame) = link.pushed().await {
        assert_eq!(number(&frame), kept);
        kept += 1;
    }
    assert!((1..5000).contains(&kept), "{kept}");
}

#[tokio::test]
async fn a_connection_leads_to_the_node_that_is_meant_or_nowhere() {
    let (links, address) = (Links::new(config()), served().await);
    links.get_node(Role::Master, 2, &address, 0).await.unwrap();
    for (role, id) in [(Role::Master, 1), (Role::Chunkserver, 2)] {
        let error = links.get_node(role, id, &address, 0).await.err().unwrap();
        assert!(error.message.contains("is master 2 and not "), "{error}");
    }
}

/// `message` with one more field, of bytes.
fn with_field<M: Message>(message: &M, field: u32, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = message.encode_to_vec();
    prost::encoding::bytes::encode(field, &bytes.to_vec(), &mut encoded);
    encoded
}

#[test]
fn an_identity_in_hello_and_a_capability_in_a_grant_are_fields_that_this_release_passes_over() {
    let identity = with_field(&Hello { name: "later".into(), ..hello() }, 6, b"who");
    assert_eq!(Hello::decode(&identity[..]).unwrap(), Hello { name: "later".into(), ..hello() });
    let chunk = ChunkRef { id: 7, version: 3 };
    assert_eq!(ChunkRef::decode(&with_field(&chunk, 3, b"may write")[..]).unwrap(), chunk);
}

#[tokio::test]
async fn a_hello_beyond_its_limit_is_refused_before_it_is_kept() {
    let address = served().await;
    let wanted = |bytes| Hello { name: "n".repeat(bytes), ..hello() };
    let connect = |hello| {
        let (address, config) = (address.clone(), LinkConfig { hello, connect_timeout: PATIENCE });
        async move { Link::connect(&address, &config).await }
    };
    connect(wanted(32 << 10)).await.unwrap();
    let error: Error = connect(wanted(1 << 20)).await.err().unwrap();
    assert_eq!(error.errno, libc::EMSGSIZE, "{error}");
}
