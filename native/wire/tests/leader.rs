//! The search for the leader over real connections: what is decided is tested beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Error, ErrorKind, Result};
use wire::leader::{Answer, Asked, Found, Miss, Pace};
use wire::proto::{Empty, Hello};
use wire::{Handler, Leader, Link, LinkConfig, Method, Request, Response, Server};

const PACE: Pace = Pace {
    first_try: Duration::from_secs(2),
    longest_try: Duration::from_secs(2),
    pause: Duration::from_millis(50),
    later: Duration::from_millis(50),
};
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

fn hello(cluster: &str) -> Hello {
    Hello { cluster_id: cluster.into(), ..wire::link::hello() }
}

/// Leads, or names somebody, or belongs to somebody else.
struct Master {
    cluster: &'static str,
    hint: Option<String>,
    leads: bool,
    asked: AtomicU32,
}

impl Handler for Master {
    fn hello(&self) -> Hello {
        hello(self.cluster)
    }

    async fn handle(self: Arc<Self>, _: Request) -> Result<Response> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.leads { Ok((&Empty {}).into()) } else { Err(Error::not_leader(self.hint.clone())) }
    }
}

async fn start(cluster: &'static str, leads: bool, hint: Option<String>) -> (String, Arc<Master>) {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.address().unwrap().to_string();
    let master = Arc::new(Master { cluster, hint, leads, asked: AtomicU32::new(0) });
    tokio::spawn(server.run(master.clone()));
    (address, master)
}

fn search(masters: &[&str]) -> Leader {
    let config = LinkConfig { hello: hello("ours"), connect_timeout: CONNECT_TIMEOUT };
    Leader::new(config, masters.iter().map(|master| master.to_string()).collect())
}

/// Who answered as the leader, and what was missed on the way.
async fn ask(leader: &Leader, limit: Duration) -> (Asked<String>, usize) {
    let mut missed = 0;
    let question = |link: Arc<Link>, deadline| async move {
        match link.ask_raw(Method::Name, &[], None, deadline).await {
            Err(error) => Answer::Miss(Miss::Silent(error)),
            Ok(Err(error)) if error.kind == ErrorKind::Unavailable => Answer::Miss(Miss::Elsewhere(error)),
            Ok(_) => Answer::Final(link.address().to_string()),
        }
    };
    let asked = leader.ask(PACE, Some(Deadline::after(limit)), question, |_, _| missed += 1).await;
    (asked, missed)
}

#[tokio::test]
async fn the_leader_is_found_past_a_master_that_hangs_by_a_hint_to_an_address_that_nobody_configured() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (unlisted, _) = start("ours", true, None).await;
    let (follower, _) = start("ours", false, Some(unlisted.clone())).await;
    let leader = search(&[&hanging.local_addr().unwrap().to_string(), &follower]);
    let started = Instant::now();
    let (asked, _) = ask(&leader, Duration::from_secs(10)).await;
    assert!(matches!(asked.found, Found::Answer(found) if found == unlisted));
    assert!(started.elapsed() < CONNECT_TIMEOUT + Duration::from_millis(500), "{:?}", started.elapsed());
    assert!(asked.before.is_none() && !asked.maybe_done);
    // From now on it is asked first.
    assert_eq!((ask(&leader, Duration::from_secs(10)).await.1, leader.known()), (0, Some(unlisted)));
}

#[tokio::test]
async fn one_master_of_another_cluster_is_no_obstacle_and_none_but_such_end_the_search_at_once() {
    let ((foreign, _), (own, _)) = (start("theirs", true, None).await, start("ours", true, None).await);
    for _ in 0..4 {
        let (asked, _) = ask(&search(&[&foreign, &own]), Duration::from_secs(10)).await;
        assert!(matches!(asked.found, Found::Answer(found) if found == own));
    }
    let started = Instant::now();
    let (asked, _) = ask(&search(&[&foreign]), Duration::from_secs(10)).await;
    assert!(matches!(asked.found, Found::Foreign(error) if error.errno == libc::EREMCHG));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn without_a_leader_masters_are_asked_at_a_pace_until_the_deadline_and_quoted() {
    let (follower, master) = start("ours", false, None).await;
    let (asked, missed) = ask(&search(&[&follower]), Duration::from_millis(500)).await;
    let Found::Nobody(reasons) = asked.found else { panic!("nobody leads") };
    assert!(reasons.contains("knows none yet") && !asked.maybe_done, "{reasons}");
    let tries = master.asked.load(Ordering::SeqCst) as usize;
    assert!(tries == missed && (5..60).contains(&tries), "{tries}");
}
