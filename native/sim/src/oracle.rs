//! What readers may see: a register for each 16 bytes, as close-to-open consistency allows. Every write fills whole grains
//! with its own number and the grain's place in it, so that a grain tells who wrote it.
//!
//! An effect (a write, or the zeros that a cut makes) takes place at some moment between its begin and the end of the first
//! sync that covers it. A reader that opened after that end gets it or a later one; it gets nothing that was surely
//! overwritten, and nothing that nobody wrote.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

pub const GRAIN: u64 = 16;

/// Microseconds of the simulated clock.
pub type Time = u64;
pub type EffectId = usize;

/// What one grain holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Zero,
    Of { effect: u32, place: u32 },
}

#[derive(Debug)]
struct Effect {
    /// The inode.
    file: u64,
    client: u32,
    begin: Time,
    /// When it was surely there: after a sync, a close, or the reply to a cut.
    end: Option<Time>,
    /// When it was surely over, there or not: its client died.
    over: Option<Time>,
    /// When the masters had surely heard the last of it: a cut after that is after it, though its bytes may still arrive.
    unheard: Option<Time>,
    /// Its own client sees it from here on.
    taken: Option<Time>,
    from: u64,
    /// Of a write or a hole; cuts make zeros from `from` on.
    until: Option<u64>,
    is_hole: bool,
}

impl Effect {
    fn new(client: u32, file: u64, from: u64, until: Option<u64>, now: Time) -> Effect {
        Effect {
            file,
            client,
            begin: now,
            end: None,
            over: None,
            unheard: None,
            taken: None,
            from,
            until,
            is_hole: false,
        }
    }

    fn value(&self, id: EffectId, grain: u64) -> Value {
        match self.until {
            _ if self.is_hole => Value::Zero,
            Some(_) => Value::Of { effect: id as u32, place: (grain - self.from / GRAIN) as u32 },
            None => Value::Zero,
        }
    }

    fn makes_zeros(&self) -> bool {
        self.is_hole || self.until.is_none()
    }

    /// Nothing is known of its end.
    fn is_open(&self) -> bool {
        self.end.is_none() && self.over.is_none()
    }

    fn covers(&self, file: u64, grain: u64) -> bool {
        file == self.file && grain >= self.from / GRAIN && self.until.is_none_or(|until| grain < until / GRAIN)
    }
}

/// The files that are written anywhere and cut. Effects of all of them have their own numbers, so that no byte of one is taken
/// for a byte of another.
#[derive(Default)]
pub struct Register {
    effects: Vec<Effect>,
    /// The newest write that a client was shown in a grain, under one open.
    shown: HashMap<(u32, u64, u64), (Time, EffectId)>,
}

/// A read of one client: when it opened the file, when it began and when it ended.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub client: u32,
    pub file: u64,
    pub opened: Time,
    pub begin: Time,
    pub end: Time,
}

impl Register {
    /// The bytes of write number `id`.
    pub fn fill(id: EffectId, length: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length as usize);
        for place in 0..(length / GRAIN) as u32 {
            let id = id as u32 + 1;
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&place.to_le_bytes());
            bytes.extend_from_slice(&(!id).to_le_bytes());
            bytes.extend_from_slice(&(!place).to_le_bytes());
        }
        bytes
    }

    /// What stands in a grain; `None`: bytes that nobody wrote.
    pub fn decode(grain: &[u8]) -> Option<Value> {
        let word =
            |at: usize| grain.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap_or_default()));
        let (id, place) = (word(0)?, word(4)?);
        if id == 0 {
            return grain.iter().all(|byte| *byte == 0).then_some(Value::Zero);
        }
        (word(8)? == !id && word(12)? == !place).then_some(Value::Of { effect: id - 1, place })
    }

    pub fn begin_write(&mut self, client: u32, file: u64, (offset, length): (u64, u64), now: Time) -> EffectId {
        self.push(Effect::new(client, file, offset, Some(offset + length), now))
    }

    pub fn begin_hole(&mut self, client: u32, file: u64, (offset, length): (u64, u64), now: Time) -> EffectId {
        let effect = Effect::new(client, file, offset, Some(offset + length), now);
        self.push(Effect { is_hole: true, ..effect })
    }

    /// Zeros from `size` on, as a cut or a growth makes them.
    pub fn begin_cut(&mut self, client: u32, file: u64, size: u64, now: Time) -> EffectId {
        self.push(Effect::new(client, file, size, None, now))
    }

    /// A growth makes zeros from the old size on.
    pub fn reaches_back_to(&mut self, id: EffectId, size: u64) {
        self.effects[id].from = self.effects[id].from.min(size.next_multiple_of(GRAIN));
    }

    fn push(&mut self, effect: Effect) -> EffectId {
        self.effects.push(effect);
        self.effects.len() - 1
    }

    pub fn taken(&mut self, id: EffectId, now: Time) {
        // Part of what its client gave up meanwhile: nobody is promised to see it.
        if self.effects[id].over.is_none() {
            self.effects[id].taken = Some(now);
        }
    }

    /// Everything that `client` took until `until` is surely there. -> the file and first and last grain of each such write
    pub fn synced(&mut self, client: u32, until: Time, now: Time) -> Vec<(u64, [u64; 2])> {
        let mine = self.effects.iter_mut().filter(|effect| effect.client == client && effect.is_open());
        let synced = mine.filter(|effect| effect.taken.is_some_and(|at| at <= until));
        let end = |effect: &mut Effect| {
            effect.end = Some(now);
            effect.until.map(|until| (effect.file, [effect.from, until - GRAIN]))
        };
        synced.filter_map(end).collect()
    }

    pub fn done(&mut self, id: EffectId, now: Time) {
        self.effects[id].taken = Some(now);
        self.effects[id].end = Some(now);
    }

    /// It took place until now, or never will.
    pub fn is_over(&mut self, id: EffectId, now: Time) {
        self.effects[id].over = Some(now);
    }

    /// The client died, or gave up what it had written: from `unheard` on the masters, from `over` on the servers hear nothing
    /// more of it.
    pub fn died(&mut self, client: u32, unheard: Time, over: Time) {
        let mine = self.effects.iter_mut().filter(|effect| effect.client == client && effect.is_open());
        mine.for_each(|effect| (effect.unheard, effect.over, effect.taken) = (Some(unheard), Some(over), None));
    }

    /// Places of `file` that were ever written.
    pub fn touched(&self, file: u64) -> BTreeSet<u64> {
        let writes = self.effects.iter().filter(|effect| effect.file == file);
        let grains = writes.filter_map(|effect| Some(effect.from / GRAIN..effect.until? / GRAIN)).flatten();
        grains.map(|grain| grain * GRAIN).collect()
    }

    /// Whether `read` may get these grains from `offset` on; the sentence says why not. What it gets binds later reads of
    /// the same open: they never go back behind it.
    pub fn look(&mut self, read: Reading, offset: u64, values: &[Option<Value>]) -> Result<(), String> {
        let first = offset / GRAIN;
        let near = self.near(read.file, first..first + values.len() as u64);
        for (grain, value) in (first..).zip(values) {
            let value = value.ok_or_else(|| format!("bytes of nobody at {}", grain * GRAIN))?;
            self.check(read, &near, grain, value)?;
            if let Value::Of { effect, .. } = value {
                let shown = self.shown.entry((read.client, read.file, grain)).or_default();
                if shown.0 != read.opened || shown.1 < effect as usize {
                    *shown = (read.opened, effect as usize);
                }
            }
        }
        Ok(())
    }

    /// Effects that touch one of these grains, oldest first.
    fn near(&self, file: u64, grains: Range<u64>) -> Vec<EffectId> {
        let touches = |effect: &Effect| {
            effect.file == file
                && effect.from / GRAIN < grains.end
                && effect.until.is_none_or(|until| until / GRAIN > grains.start)
        };
        (0..self.effects.len()).filter(|id| touches(&self.effects[*id])).collect()
    }

    fn check(&self, read: Reading, near: &[EffectId], grain: u64, value: Value) -> Result<(), String> {
        let shown = self.shown.get(&(read.client, read.file, grain));
        let shown = shown.filter(|(opened, _)| *opened == read.opened).map(|(_, id)| *id);
        // It was there, and everybody who opens now must see it: so does who saw it already.
        let shown = shown.filter(|id| self.effects[*id].end.is_some_and(|end| end < read.begin));
        let visible = |id: EffectId, effect: &Effect| visible(effect, read) || Some(id) == shown;
        // Numbers are given in the order of begins: what follows an effect has a higher one.
        let after = |id: EffectId| {
            let later = near[near.partition_point(|other| *other < id)..].iter().rev();
            later.map(|id| (*id, &self.effects[*id])).filter(move |(_, effect)| effect.covers(read.file, grain))
        };
        let here = || after(0);
        let overwrites = |id: EffectId, effect: &Effect| {
            let later =
                |(other, later): &(EffectId, &Effect)| visible(*other, later) && follows(*other, later, id, effect);
            after(id + 1).find(later).map(|(other, _)| other)
        };
        let mut hidden = None;
        match value {
            Value::Of { effect: id, .. } => {
                let found = self
                    .effects
                    .get(id as usize)
                    .filter(|effect| effect.covers(read.file, grain) && effect.begin <= read.end);
                if let Some(effect) = found.filter(|effect| effect.value(id as usize, grain) == value) {
                    hidden = overwrites(id as usize, effect);
                    if hidden.is_none() {
                        return Ok(());
                    }
                }
            }
            Value::Zero => {
                hidden = here().find(|(id, effect)| visible(*id, effect)).map(|(id, _)| id);
                let cuts = here().filter(|(_, effect)| effect.makes_zeros() && effect.begin <= read.end);
                if hidden.is_none() || cuts.into_iter().any(|(id, effect)| overwrites(id, effect).is_none()) {
                    return Ok(());
                }
            }
        }
        let why = hidden.map_or("nobody wrote it".into(), |other| format!("effect {other} surely came later"));
        let list: Vec<String> = here().map(|(id, effect)| format!("{id}: {effect:?}")).collect();
        let offset = grain * GRAIN;
        Err(format!("{value:?}: {why}; offset {offset}, read {read:?}, effects here:\n  {}", list.join("\n  ")))
    }
}

/// Whether the reader must see this effect or a later one.
fn visible(effect: &Effect, read: Reading) -> bool {
    let own = effect.client == read.client && effect.taken.is_some_and(|at| at < read.begin);
    own || effect.end.is_some_and(|at| at < read.opened)
}

/// Whether `later` surely came after `effect`.
fn follows(later_id: EffectId, later: &Effect, id: EffectId, effect: &Effect) -> bool {
    let is_cut = later.until.is_none();
    let over = effect.end.or(effect.unheard.filter(|_| is_cut)).or(effect.over);
    over.is_some_and(|at| at < later.begin) || (later.client == effect.client && later_id > id)
}

/// Records of the log have numbers of their own, apart from those of writes to other files.
const FIRST_RECORD: u32 = 1 << 30;

/// One file that is only appended to: whole records, each once, and nothing else.
#[derive(Default)]
pub struct Log {
    records: Vec<Record>,
}

struct Record {
    client: u32,
    grains: u32,
    taken: Option<Time>,
    end: Option<Time>,
}

impl Log {
    /// The bytes of record number `id`.
    pub fn fill(id: EffectId, length: u64) -> Vec<u8> {
        Register::fill(id + FIRST_RECORD as usize, length)
    }

    pub fn begin(&mut self, client: u32, length: u64) -> EffectId {
        self.records.push(Record { client, grains: (length / GRAIN) as u32, taken: None, end: None });
        self.records.len() - 1
    }

    pub fn taken(&mut self, id: EffectId, now: Time) {
        self.records[id].taken = Some(now);
    }

    pub fn synced(&mut self, client: u32, until: Time, now: Time) {
        let mine = self.records.iter_mut().filter(|record| record.client == client && record.end.is_none());
        mine.filter(|record| record.taken.is_some_and(|at| at <= until)).for_each(|record| record.end = Some(now));
    }

    /// What the client had not synced is in the log or never will be.
    pub fn gave_up(&mut self, client: u32) {
        let mine = self.records.iter_mut().filter(|record| record.client == client && record.end.is_none());
        mine.for_each(|record| record.taken = None);
    }

    /// Whether a reader that opened at `opened` may see these values from the begin of the file to its end. `whole`: the
    /// file was read to its end.
    pub fn check(&self, opened: Time, values: &[Option<Value>], whole: bool) -> Result<(), String> {
        let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
        let mut at = 0;
        while at < values.len() {
            let Some(Value::Of { effect, place: 0 }) = values[at] else {
                return Err(format!("grain {at} of the log is {:?} where a record begins", values[at]));
            };
            let id = effect.wrapping_sub(FIRST_RECORD);
            let Some(record) = self.records.get(id as usize) else {
                return Err(format!("grain {at} of the log is of record {effect}, which nobody wrote"));
            };
            if let Some(first) = seen.insert(id, at) {
                return Err(format!("record {id} stands at grain {first} and at {at}"));
            }
            for place in 0..record.grains {
                match values.get(at + place as usize) {
                    Some(Some(Value::Of { effect: other, place: there })) if (*other, *there) == (effect, place) => {}
                    None if !whole => return Ok(()),
                    other => return Err(format!("grain {place} of record {id} is {other:?}")),
                }
            }
            at += record.grains as usize;
        }
        let missing = |(id, record): (usize, &Record)| {
            (record.end.is_some_and(|end| end < opened) && !seen.contains_key(&(id as u32)))
                .then_some((id, record.client))
        };
        match self.records.iter().enumerate().find_map(missing).filter(|_| whole) {
            Some((id, client)) => Err(format!("record {id}, synced by client {client}, is not in the log")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(opened: Time) -> Reading {
        Reading { client: 9, file: 7, opened, begin: opened, end: opened + 1 }
    }

    #[test]
    fn what_was_synced_before_an_open_must_be_seen_and_what_was_not_may() {
        let mut register = Register::default();
        let id = register.begin_write(1, 7, (0, 32), 10);
        let value = Value::Of { effect: id as u32, place: 1 };
        register.taken(id, 11);
        for seen in [value, Value::Zero] {
            assert!(register.look(reading(20), 16, &[Some(seen)]).is_ok());
        }
        register.synced(1, 11, 30);
        assert!(register.look(reading(31), 16, &[Some(Value::Zero)]).is_err());
        assert!(register.look(reading(31), 16, &[Some(value)]).is_ok());
        assert!(
            register.look(reading(31), 16, &[Some(Value::Of { effect: 0, place: 0 })]).is_err(),
            "bytes of another place"
        );
    }

    #[test]
    fn a_dead_writers_bytes_do_not_come_after_a_later_cut() {
        let mut register = Register::default();
        let id = register.begin_write(1, 7, (160, 16), 10);
        register.taken(id, 11);
        register.died(1, 50, 5000);
        let grown = register.begin_cut(2, 7, 4096, 100);
        register.reaches_back_to(grown, 100);
        register.done(grown, 110);
        assert!(register.look(reading(120), 160, &[Some(Value::Of { effect: 0, place: 0 })]).is_err());
        assert!(register.look(reading(120), 160, &[Some(Value::Zero)]).is_ok());
    }

    #[test]
    fn bytes_of_another_file_are_bytes_that_nobody_wrote_here() {
        let mut register = Register::default();
        let id = register.begin_write(1, 8, (0, 16), 10);
        assert!(register.look(reading(20), 0, &[Some(Value::Of { effect: id as u32, place: 0 })]).is_err());
    }

    #[test]
    fn who_saw_a_write_that_is_there_now_never_sees_what_was_before_it() {
        let mut register = Register::default();
        let old = register.begin_write(1, 7, (0, 16), 10);
        register.taken(old, 11);
        register.synced(1, 11, 12);
        let new = register.begin_write(1, 7, (0, 16), 30);
        register.taken(new, 31);
        let of = |id: EffectId| Value::Of { effect: id as u32, place: 0 };
        let later = |begin: Time| Reading { begin, end: begin + 1, ..reading(20) };
        register.look(later(32), 0, &[Some(of(new))]).unwrap();
        assert!(register.look(later(34), 0, &[Some(of(old))]).is_ok(), "it is not synced: it may be lost");
        register.synced(1, 31, 40);
        assert!(register.look(later(41), 0, &[Some(of(old))]).is_err());
        assert!(
            register.look(Reading { client: 10, ..later(41) }, 0, &[Some(of(old))]).is_ok(),
            "another, with an older open"
        );
    }

    #[test]
    fn a_log_holds_each_record_once_and_nothing_else() {
        let mut log = Log::default();
        let (a, b) = (log.begin(1, 32), log.begin(2, 16));
        log.taken(b, 5);
        log.synced(2, 5, 6);
        let of = |effect: usize, place: u32| Some(Value::Of { effect: effect as u32 + FIRST_RECORD, place });
        assert!(log.check(10, &[of(b, 0)], true).is_ok());
        assert!(log.check(10, &[of(b, 0), of(a, 0), of(a, 1)], true).is_ok());
        assert!(log.check(10, &[of(a, 0), of(a, 1)], true).is_err(), "a synced record is missing");
        assert!(log.check(10, &[of(b, 0), of(a, 0)], true).is_err(), "half a record");
        assert!(log.check(10, &[of(b, 0), Some(Value::Zero)], true).is_err());
        assert!(log.check(10, &[of(b, 0), of(b, 0)], true).is_err());
    }
}
