//! What the other masters say of themselves, asked once a second: for views, and for the cluster level. Raft does not
//! depend on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Result;
use base::time::Deadline;
use futures::future::join_all;
use parking_lot::Mutex;
use wire::proto::{ClusterView, Hello, MasterView, Role, ViewRequest};
use wire::{LinkConfig, Links, Method};

use crate::config::MasterConfig;

const ASK_EVERY: Duration = Duration::from_secs(1);
/// At first: a new cluster agrees on its level before its first clients come.
const ASK_FIRST: Duration = Duration::from_millis(100);
const AT_FIRST: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_millis(800);

/// By node id; a master that did not answer is absent.
pub type Said = Arc<Mutex<HashMap<u32, MasterView>>>;

pub async fn watch(config: MasterConfig, hello: Hello, said: Said) {
    let links = Links::new(LinkConfig { hello, connect_timeout: ANSWER_WITHIN });
    let begin = Instant::now();
    let mut all_answered = false;
    loop {
        let others = config.peers.iter().filter(|(id, _)| **id != config.node_id);
        let answers = join_all(others.map(|(id, address)| {
            let links = &links;
            async move {
                let answer = ask(links, *id, address).await;
                if answer.is_err() {
                    links.forget(address);
                }
                Some((*id, answer.ok().flatten()?))
            }
        }))
        .await;
        all_answered |= answers.iter().all(Option::is_some);
        *said.lock() = answers.into_iter().flatten().collect();
        tokio::time::sleep(if all_answered || begin.elapsed() > AT_FIRST { ASK_EVERY } else { ASK_FIRST }).await;
    }
}

async fn ask(links: &Links, id: u32, address: &str) -> Result<Option<MasterView>> {
    let deadline = Deadline::after(ANSWER_WITHIN);
    let link = links.get_node(Role::Master, id, address, 0).await?;
    let view: ClusterView = link.call(Method::View, &ViewRequest::default(), None, deadline).await?.decode()?;
    Ok(view.masters.into_iter().find(|master| master.node_id == id))
}

/// How this master introduces itself.
pub fn hello(config: &MasterConfig) -> Hello {
    Hello {
        cluster_id: config.cluster_id.clone(),
        role: Role::Master as i32,
        node_id: config.node_id,
        name: format!("master-{}", config.node_id),
        ..wire::link::hello()
    }
}
