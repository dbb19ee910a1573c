//! Agree on a higher cluster level: see `wire::level`. It never falls.

use base::Result;
use wire::proto::{AdminReply, RaiseLevel};

use crate::errors;
use crate::state::Context;

pub(crate) fn raise_level(cx: &mut Context, op: &RaiseLevel) -> Result<AdminReply> {
    if cx.tables.config.is_none() {
        return Err(errors::no_cluster());
    }
    cx.tables.raise_level(op.level);
    Ok(AdminReply::default())
}
