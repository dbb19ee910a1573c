//! Sessions come and go in the log; renewing them does not.

use base::Result;
use wire::proto::{NameReply, RegisterSession};

use crate::errors;
use crate::session::{Session, SessionInfo};
use crate::state::{Context, Event};

const MAX_FIELD_BYTES: usize = 4096;

/// Ids are never given out twice. A retried registration makes a second session; the first one expires unused.
pub(crate) fn register(cx: &mut Context, op: &RegisterSession) -> Result<NameReply> {
    for (field, value) in [("name", &op.name), ("host", &op.host), ("mount_point", &op.mount_point)] {
        if value.len() > MAX_FIELD_BYTES {
            return Err(errors::invalid(format!("a session's {field} must have at most {MAX_FIELD_BYTES} bytes")));
        }
    }
    let session = cx.tables.next.session;
    cx.tables.next.session += 1;
    let info = SessionInfo {
        name: op.name.clone(),
        host: op.host.clone(),
        mount_point: op.mount_point.clone(),
        registered_ns: cx.now_ns,
    };
    cx.tables.put_session(session, Session::new(info));
    let inline_limit = cx.tables.config.as_ref().map_or(0, |config| config.inline_limit);
    Ok(NameReply { session, inline_limit, ..NameReply::default() })
}

/// No effect on a session that has ended.
pub(crate) fn end(cx: &mut Context, session: u64) {
    if cx.tables.remove_session(session) {
        cx.events.push(Event::SessionEnded(session));
    }
}
