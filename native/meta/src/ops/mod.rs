//! One operation, one file. Each checks everything, then changes; this file only says which is which.

pub(crate) mod accessed;
pub(crate) mod append_begin;
pub(crate) mod bootstrap;
pub(crate) mod chunks;
pub(crate) mod commit_write;
pub(crate) mod content;
pub(crate) mod create;
pub(crate) mod grant_write;
pub(crate) mod heal;
pub(crate) mod history;
pub(crate) mod link;
pub(crate) mod lookup;
pub(crate) mod make;
pub(crate) mod make_node;
pub(crate) mod mkdir;
pub(crate) mod open;
pub(crate) mod purge;
pub(crate) mod raise_level;
pub(crate) mod readdir;
pub(crate) mod release_grants;
pub(crate) mod remove;
pub(crate) mod rename;
pub(crate) mod resolve;
pub(crate) mod servers;
pub(crate) mod session;
pub(crate) mod setattr;
pub(crate) mod symlink;
pub(crate) mod trim_done;
mod turn;
pub(crate) mod write_inline;
pub(crate) mod xattr;

use base::Result;
use wire::proto::name_request::Op;
use wire::proto::{AdminCommand, AdminReply, NameReply, NameRequest};

use crate::access::Caller;
use crate::errors;
use crate::state::Context;
use crate::tables::Tables;

pub(crate) fn mutate(cx: &mut Context, op: &Op) -> Result<NameReply> {
    match op {
        Op::Mkdir(op) => mkdir::mkdir(cx, op),
        Op::Create(op) => create::create(cx, op),
        Op::Unlink(op) => remove::unlink(cx, op),
        Op::Rmdir(op) => remove::rmdir(cx, op),
        Op::Symlink(op) => symlink::symlink(cx, op),
        Op::MakeNode(op) => make_node::make_node(cx, op),
        Op::Link(op) => link::link(cx, op),
        Op::Rename(op) => rename::rename(cx, op),
        Op::Setattr(op) => setattr::setattr(cx, op),
        Op::WriteInline(op) => write_inline::write_inline(cx, op),
        Op::GrantWrite(op) => grant_write::grant_write(cx, op),
        Op::CommitWrite(op) => commit_write::commit_write(cx, op),
        Op::TrimDone(op) => trim_done::trim_done(cx, op),
        Op::AppendBegin(op) => append_begin::append_begin(cx, op),
        Op::SetXattr(op) => xattr::set(cx, op),
        Op::RemoveXattr(op) => xattr::remove(cx, op),
        Op::Accessed(op) => accessed::accessed(cx, op),
        Op::ReleaseGrants(op) => release_grants::release_grants(cx, op),
        _ => Err(errors::unsupported("this operation as a change")),
    }
}

pub(crate) fn query(tables: &Tables, request: &NameRequest) -> Result<NameReply> {
    let caller = Caller::new(request.creds.as_ref());
    let op = request.op.as_ref().ok_or_else(|| errors::invalid("the request names no operation"))?;
    if tables.config.is_none() {
        return Err(errors::no_cluster());
    }
    match op {
        Op::Lookup(op) => lookup::lookup(tables, &caller, op),
        Op::Getattr(op) => lookup::getattr(tables, op),
        Op::Readlink(op) => lookup::readlink(tables, op),
        Op::Access(op) => lookup::access(tables, &caller, op),
        Op::Readdir(op) => readdir::readdir(tables, &caller, op),
        Op::Open(op) => open::open(tables, &caller, op),
        Op::GetChunks(op) => chunks::get_chunks(tables, op),
        Op::GetXattr(op) => xattr::get(tables, &caller, op),
        Op::ListXattr(op) => xattr::list(tables, &caller, op),
        Op::Resolve(op) => resolve::resolve(tables, &caller, op),
        _ => Err(errors::unsupported("this operation as a read")),
    }
}

pub(crate) fn admin(cx: &mut Context, command: &AdminCommand) -> Result<AdminReply> {
    use wire::proto::admin_command::Op;
    let op = command.op.as_ref().ok_or_else(|| errors::invalid("the command names no operation"))?;
    match op {
        Op::Bootstrap(op) => bootstrap::bootstrap(cx, op),
        Op::RegisterServer(op) => servers::register(cx, op),
        Op::SetServerUp(op) => servers::set_up(cx, op),
        Op::SetWeights(op) => servers::set_weights(cx, op),
        Op::ForgetServer(op) => servers::forget(cx, op),
        Op::BeginHeal(op) => heal::begin(cx, op),
        Op::EndHeal(op) => heal::end(cx, op),
        Op::DropReplica(op) => heal::drop_replica(cx, op),
        Op::Purge(op) => purge::purge(cx, op),
        Op::ExpireSession(op) => {
            session::end(cx, op.session);
            Ok(AdminReply::default())
        }
        Op::BeginHistory(op) => history::begin(cx, op),
        Op::ConfirmServer(op) => servers::confirm(cx, op),
        Op::RaiseNumbers(op) => history::raise(cx, op),
        Op::AcceptHistory(op) => history::accept(cx, op),
        Op::DropUnknown(_) => history::drop_unknown(cx),
        Op::AdoptCopies(op) => heal::adopt(cx, op),
        Op::RaiseLevel(op) => raise_level::raise_level(cx, op),
    }
}

/// A reply with the attributes of an inode that was seen to exist.
pub(crate) fn attr_reply(tables: &Tables, inode: u64) -> NameReply {
    NameReply { attr: tables.inode(inode).ok().map(|found| tables.attr(inode, found)), ..NameReply::default() }
}
