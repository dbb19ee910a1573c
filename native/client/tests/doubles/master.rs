//! A double of the leader: the real state machine, no Raft, no second master, tricks on demand.

use std::collections::VecDeque;
use std::sync::Arc;

use base::{Error, Result, time};
use parking_lot::Mutex;
use prost::Message;
use wire::proto::name_request::Op;
use wire::proto::{
    self, AdminCommand, Bootstrap, Command, ExpireSession, GetChunks, Hello, NameReply, NameRequest, RegisterServer,
    RenewReply, RenewSession, admin_command, command,
};
use wire::{Handler, Method, Request, Response, Server};

#[derive(Clone, Debug)]
pub enum Trick {
    /// Carry it out, then drop the connection.
    LoseReply,
    /// Carry it out and stay silent.
    NeverAnswer,
    LoseReplyAndExpire(u64),
    NotLeader(Option<String>),
}

pub struct DoubleMaster {
    pub address: String,
    state: Mutex<meta::State>,
    tricks: Mutex<VecDeque<Trick>>,
}

impl DoubleMaster {
    pub async fn start() -> Arc<DoubleMaster> {
        let server = Server::bind("127.0.0.1:0").await.unwrap();
        let address = server.address().unwrap().to_string();
        let master =
            Arc::new(DoubleMaster { address, state: Mutex::new(meta::State::new()), tricks: Mutex::default() });
        master.admin(admin_command::Op::Bootstrap(Bootstrap {
            cluster_id: "double".into(),
            copies: 3,
            min_copies: 2,
            inline_limit: 8192,
        }));
        tokio::spawn(server.run(master.clone()));
        master
    }

    pub fn play(&self, trick: Trick) {
        self.tricks.lock().push_back(trick);
    }

    pub fn register(&self, server_id: u32, address: &str) {
        self.admin(admin_command::Op::RegisterServer(RegisterServer {
            server_id,
            address: address.into(),
            boot_id: 1,
        }));
    }

    pub fn expire(&self, session: u64) {
        self.admin(admin_command::Op::ExpireSession(ExpireSession { session }));
    }

    /// The committed write set of one chunk, sorted.
    pub fn set_of(&self, inode: u64, index: u64) -> Vec<u32> {
        let mut set = self.order_of(inode, index);
        set.sort();
        set
    }

    /// The same in the order that clients are told.
    pub fn order_of(&self, inode: u64, index: u64) -> Vec<u32> {
        let op = Some(Op::GetChunks(GetChunks { inode, first: index, count: 1 }));
        let creds = Some(proto::Credentials::default());
        let reply = self.state.lock().query(&NameRequest { creds, op, ..NameRequest::default() });
        reply.chunks[0].replicas.iter().map(|replica| replica.server_id).collect()
    }

    fn admin(&self, op: admin_command::Op) {
        let command = command::What::Admin(AdminCommand { expected_term: 0, op: Some(op) });
        let reply = self.apply(command);
        assert!(proto::AdminReply::decode(&reply[..]).unwrap().error.is_none());
    }

    fn apply(&self, what: command::What) -> Vec<u8> {
        let command = Command { now_ns: time::wall_ns(), seed: 42, what: Some(what) };
        self.state.lock().apply(&command).0.encode()
    }

    fn answer(&self, request: &NameRequest) -> Vec<u8> {
        match &request.op {
            Some(Op::Release(_)) => NameReply::default().encode_to_vec(),
            Some(Op::RegisterSession(_)) => {
                let reply = self.apply(command::What::Name(request.clone()));
                let reply = NameReply::decode(&reply[..]).unwrap();
                NameReply { session_timeout_ms: 60_000, ..reply }.encode_to_vec()
            }
            _ if request.op_id == 0 => self.state.lock().query(request).encode_to_vec(),
            _ => self.apply(command::What::Name(request.clone())),
        }
    }
}

impl Handler for DoubleMaster {
    fn hello(&self) -> Hello {
        Hello {
            cluster_id: "double".into(),
            role: proto::Role::Master as i32,
            node_id: 1,
            name: "double".into(),
            ..wire::link::hello()
        }
    }

    async fn handle(self: Arc<Self>, request: Request) -> Result<Response> {
        if request.method == Method::Renew {
            let renewal: RenewSession = request.decode()?;
            let known = self.state.lock().has_session(renewal.session);
            let error = (!known).then(|| {
                Error::stale(format!("session {} has ended", renewal.session)).because(base::Reason::NoSession).into()
            });
            return Ok((&RenewReply { error, session_timeout_ms: 60_000, term: 1, now_ns: 0 }).into());
        }
        let message: NameRequest = request.decode()?;
        let trick = self.tricks.lock().pop_front();
        if let Some(Trick::NotLeader(hint)) = trick {
            return Err(Error::not_leader(hint));
        }
        let reply = self.answer(&message);
        match trick {
            Some(Trick::LoseReply) => request.peer.close(),
            Some(Trick::LoseReplyAndExpire(session)) => {
                self.expire(session);
                request.peer.close();
            }
            Some(Trick::NeverAnswer) => std::future::pending().await,
            _ => {}
        }
        Ok(Response { message: reply, payload: None })
    }
}
