//! The one table of operations on names. Whoever asks what an operation is (who answers it, whether a retry must count
//! once, what its counter is called) asks here. Decides nothing: what an operation does is the state machine's.
//!
//! An operation that the schema has and the table lacks does not compile.

use crate::proto::name_request::Op;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The committed state, under the leader's lease.
    Read,
    /// The leader, from what it keeps in memory beside the state or notes there. Not in the log.
    Memory,
    /// The log: it changes the state on every master.
    Change,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Memory => "memory",
            Kind::Change => "change",
        }
    }
}

/// What a repetition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// May count again: nothing changes, or nothing that would be wrong twice.
    Again,
    /// Must count once, so it carries an operation id of its session.
    Once,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    /// As in the schema, in metrics and in logs.
    pub name: &'static str,
    /// Its field in `NameRequest`; never used for another one.
    pub number: u32,
    pub kind: Kind,
    pub retry: Retry,
    /// The cluster level that brought it.
    pub level: u32,
}

macro_rules! operations {
    ($($variant:ident $name:literal $number:literal $kind:ident $retry:ident $level:literal;)+) => {
        enum Place {
            $($variant,)+
        }

        /// In the order of their numbers.
        pub const TABLE: &[Operation] = &[
            $(Operation { name: $name, number: $number, kind: Kind::$kind, retry: Retry::$retry, level: $level },)+
        ];

        /// Where in `TABLE` an operation stands.
        pub fn place(op: &Op) -> usize {
            match op {
                $(Op::$variant(_) => Place::$variant as usize,)+
            }
        }
    };
}

operations! {
    // variant       name               number kind   retry level
    Lookup          "lookup"            10 Read   Again 1;
    Getattr         "getattr"           11 Read   Again 1;
    Readlink        "readlink"          12 Read   Again 1;
    Access          "access"            13 Read   Again 1;
    Readdir         "readdir"           14 Read   Again 1;
    // Counted too often, a handle ends with the renewal that leaves the inode out.
    Open            "open"              15 Memory Again 1;
    Release         "release"           16 Memory Once  1;
    GetChunks       "get_chunks"        17 Read   Again 1;
    Resolve         "resolve"           18 Read   Again 1;
    Statfs          "statfs"            19 Memory Again 1;
    GetXattr        "get_xattr"         20 Read   Again 3;
    ListXattr       "list_xattr"        21 Read   Again 3;

    Mkdir           "mkdir"             30 Change Once  1;
    Create          "create"            31 Change Once  1;
    Unlink          "unlink"            32 Change Once  1;
    Rmdir           "rmdir"             33 Change Once  1;
    Symlink         "symlink"           34 Change Once  1;
    Link            "link"              35 Change Once  1;
    Rename          "rename"            36 Change Once  1;
    Setattr         "setattr"           37 Change Once  1;
    WriteInline     "write_inline"      38 Change Once  1;
    GrantWrite      "grant_write"       39 Change Once  1;
    CommitWrite     "commit_write"      40 Change Once  1;
    TrimDone        "trim_done"         41 Change Once  1;
    // It makes the session whose ids would count; a session too many expires.
    RegisterSession "register_session"  42 Change Again 1;
    CloseSession    "close_session"     43 Change Once  1;
    AppendBegin     "append_begin"      44 Change Once  1;
    ReleaseGrants   "release_grants"    45 Change Once  1;
    MakeNode        "make_node"         46 Change Once  2;
    SetXattr        "set_xattr"         47 Change Once  3;
    RemoveXattr     "remove_xattr"      48 Change Once  3;
    Accessed        "accessed"          49 Change Once  3;
}

/// What there is to know of an operation.
pub fn of(op: &Op) -> &'static Operation {
    &TABLE[place(op)]
}

/// Whether it goes through the log.
pub fn is_change(op: &Op) -> bool {
    of(op).kind == Kind::Change
}

/// Whether it carries an operation id, so that a retry counts once.
pub fn is_once(op: &Op) -> bool {
    of(op).retry == Retry::Once
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;

    use super::*;
    use crate::proto::NameRequest;

    const SCHEMA: &str = include_str!("../../../mooseng_py/proto/name.proto");

    /// (name, number) of each operation of the schema.
    fn schema() -> BTreeSet<(String, u32)> {
        let body = SCHEMA.split("oneof op {").nth(1).and_then(|rest| rest.split('}').next()).expect("a oneof op");
        let fields = body.lines().filter_map(|line| line.trim().strip_suffix(';'));
        let parts = fields.map(|field| field.split_whitespace().collect::<Vec<_>>());
        parts.map(|part| (part[1].to_string(), part[3].parse().expect("a number"))).collect()
    }

    #[test]
    fn names_and_numbers_are_those_of_the_schema() {
        let table: BTreeSet<(String, u32)> = TABLE.iter().map(|row| (row.name.to_string(), row.number)).collect();
        assert_eq!(table, schema());
    }

    #[test]
    fn an_operation_finds_its_own_row() {
        for (place, row) in TABLE.iter().enumerate() {
            let mut request = Vec::new();
            prost::encoding::encode_key(row.number, prost::encoding::WireType::LengthDelimited, &mut request);
            request.push(0);
            let op = NameRequest::decode(&request[..]).unwrap().op.expect(row.name);
            assert_eq!((super::place(&op), of(&op).name), (place, row.name));
        }
    }

    #[test]
    fn every_change_within_a_session_counts_once() {
        let repeated: Vec<&str> = TABLE
            .iter()
            .filter(|row| row.kind == Kind::Change && row.retry == Retry::Again)
            .map(|row| row.name)
            .collect();
        assert_eq!(repeated, ["register_session"]);
        assert!(TABLE.iter().all(|row| row.kind != Kind::Read || row.retry == Retry::Again));
    }
}
