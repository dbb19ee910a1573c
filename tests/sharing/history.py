"""What several clients did to files and saw of them, and the rules by which that is right or wrong. Pure: no clock, no file.

Every 4 KiB block that is written says which file it is for, who wrote it, as that client's how-manyth change, and where; so what a
reader finds in a block names the change it came from. Two changes are ordered when one of them had its effect for sure before the
other began: when it was fsynced or closed by then (a cut: when it returned), or when one client made both. From that follows, for
each block that a reader finds:

- it is of this file, whole, where its writer put it, and from no later time;
- no other change came for sure after it and before the open (close-to-open; one's own changes count at once);
- zeros have a cause: never written, made a hole, or cut off; and something made the file longer without writing there, or it was cut after
  the reader had heard its size;
- a reader never goes back to what came before something it saw; except from bytes that nobody had synced, when a chunkserver or the
  client that wrote them failed meanwhile;
- what is appended stands in one place, as it was written;
- the size is one that some change made, and not smaller than what is there for sure.
"""

import struct
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter

BLOCK = 4096
_HEADER = struct.Struct("<QQIIII")
_MAGIC = 0x4B4C424D
_REPEATS = BLOCK // _HEADER.size


@dataclass(frozen=True)
class Mark:
    """What a block says of itself. `index`: its place in the file, or within what was appended."""

    inode: int
    index: int
    client: int
    sequence: int
    appended: bool

    def block(self) -> bytes:
        head = _HEADER.pack(self.inode, self.index, self.client, self.sequence, self.appended, _MAGIC)
        return head * _REPEATS


TORN = "torn"
# A block as found: whose it is, nothing but zeros, or neither.
Found = Mark | None | str


def found(block: bytes) -> Found:
    """What stands in these 4 KiB."""
    head = block[: _HEADER.size]
    if head * _REPEATS != block:
        return TORN
    if not any(head):
        return None
    inode, index, client, sequence, appended, magic = _HEADER.unpack(head)
    return Mark(inode, index, client, sequence, bool(appended)) if magic == _MAGIC else TORN


@dataclass(eq=False)
class Change:
    """A write, hole or append of `count` blocks (`first`: where; of an append unknown), or a cut to `first` blocks.

    `stable`: when a sync or close returned OK after it; infinite as long as none did, also for one that failed.
    """

    kind: str
    client: int
    sequence: int
    inode: int
    first: int
    count: int
    start: float
    end: float
    stable: float = inf

    @property
    def zeroes(self) -> bool:
        """It writes nothing and leaves zeros."""
        return self.kind in ("cut", "hole")

    @property
    def behind(self) -> int:
        """The block after its last, or the size that a cut set."""
        return self.first if self.kind == "cut" else self.first + self.count

    def before(self, other: "Change") -> bool:
        """It had its effect for sure before the other one began."""
        if self.client == other.client:
            return self.sequence < other.sequence
        return self.stable < other.start

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.client}/{self.sequence} of blocks {self.first}+{self.count}"
            f" at {self.start:.3f}..{self.end:.3f}, stable {self.stable:.3f}"
        )


@dataclass(eq=False)
class Look:
    """An open or stat and the read of everything after it. `size`: bytes, as told; `blocks`: what was read, perhaps less."""

    client: int
    inode: int
    start: float
    end: float
    size: int
    blocks: list[Found]

    def __str__(self) -> str:
        return f"client {self.client} at {self.start:.3f}..{self.end:.3f} of file {self.inode}"


@dataclass(eq=False)
class Naming:
    """A file was put in the name's place (`inode`), or the name was opened and found to be it."""

    client: int
    inode: int
    start: float
    end: float


# When a failure began at the earliest, and when it was over.
Span = tuple[float, float]


def within(span: Span, begin: float, end: float) -> bool:
    """Whether some of the failure lies there."""
    return span[0] <= end and begin <= span[1]


@dataclass
class History:
    """One name, the files that had it, and what became of them."""

    changes: list[Change] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    placed: list[Naming] = field(default_factory=list)
    opened: list[Naming] = field(default_factory=list)
    # A mount died: what it had seen of its own may be gone.
    deaths: list[tuple[int, Span]] = field(default_factory=list)
    # A chunkserver was killed or paused.
    failures: list[Span] = field(default_factory=list)

    def problems(self) -> list[str]:
        """What is wrong with it, in words; nothing when it is right."""
        return _Check(self).run()


class _Check:
    def __init__(self, history: History) -> None:
        self.history = history
        self.wrong: list[str] = []
        self.by_mark = {(c.client, c.sequence): c for c in history.changes}
        self.of_file: dict[int, list[Change]] = defaultdict(list)
        for change in history.changes:
            self.of_file[change.inode].append(change)
        self.looks = sorted(history.looks, key=lambda look: look.start)
        self.over_block: dict[tuple[int, int], list[Change]] = {}
        self.over_block_by_client: dict[tuple[int, int], list[list[Change]]] = {}
        self.latest_of: dict[tuple[Look, int], list[Change]] = {}

    def run(self) -> list[str]:
        self.place_appends()
        if not self.wrong:
            self.check_names()
            for look in self.looks:
                self.check_size(look)
                for at, block in enumerate(look.blocks):
                    self.check_block(look, at, block)
            self.check_going_back()
            self.check_lost_appends()
        return self.wrong

    def place_appends(self) -> None:
        """Where each append stands is known from who saw it; it may be one place only."""
        for appended in self.history.changes:
            if appended.kind == "append":
                appended.first = -1
        for look in self.looks:
            for at, block in enumerate(look.blocks):
                if not isinstance(block, Mark) or not block.appended:
                    continue
                change = self.by_mark.get((block.client, block.sequence))
                if change is None or change.kind != "append" or self.may_move(change, look):
                    continue
                if change.first >= 0 and change.first != at - block.index:
                    self.wrong.append(f"{look}: {change} stands at {at - block.index} too")
                change.first = at - block.index

    def may_move(self, change: Change, look: Look) -> bool:
        """An own append that is not synced: with a failure it may have lost its turn, and its place, since."""
        own = change.kind == "append" and change.client == look.client and change.stable >= look.start
        return own and any(within(failure, change.start, look.end) for failure in self.history.failures)

    # ---- blocks ---------------------------------------------------------------------------------------------------
    def counts(self, change: Change, look: Look) -> bool:
        """This look must see it, unless something came after it: one's own while one's mount lives, others' once stable."""
        if change.client != look.client:
            return change.stable < look.start
        died = [at for client, at in self.history.deaths if client == look.client]
        if change.kind == "append":
            died += self.history.failures  # it may have lost its turn, and waits for another
        lost = any(within(death, change.start, look.start) for death in died)
        return (change.stable if lost else change.end) < look.start

    def over(self, inode: int, at: int) -> list[Change]:
        """The changes of one block: what was written there, and the cuts that took it off."""
        key = inode, at
        if key not in self.over_block:
            self.over_block[key] = [
                change
                for change in self.of_file[inode]
                if (change.first <= at if change.kind == "cut" else 0 <= change.first <= at < change.behind)
            ]
        return self.over_block[key]

    def check_block(self, look: Look, at: int, block: Found) -> None:
        if block is None:
            self.check_zeros(look, at)
            return
        if not isinstance(block, Mark):
            self.wrong.append(f"{look}: block {at} is neither what somebody wrote nor zeros")
            return
        change = self.by_mark.get((block.client, block.sequence))
        if change and block.appended and self.may_move(change, look):
            return
        where = change.first + block.index if change and block.appended else block.index
        if change is None or change.zeroes or where != at or not 0 <= at - change.first < change.count:
            self.wrong.append(f"{look}: block {at} has {block}, which nobody wrote there")
        elif block.inode != look.inode or change.inode != look.inode:
            self.wrong.append(f"{look}: block {at} is of another file: {block}")
        elif change.start > look.end:
            self.wrong.append(f"{look}: block {at} is of the future: {change}")
        elif later := self.overtaken(look, at, change):
            self.wrong.append(f"{look}: block {at} is of {change}, though afterwards came {later}")

    def latest(self, look: Look, at: int) -> list[Change]:
        """Of what this look must see of a block, the last of each client."""
        key = look, at
        if key not in self.latest_of:
            self.latest_of[key] = [
                change for mine in self.by_client(look.inode, at) if (change := self.last_that_counts(mine, look))
            ]
        return self.latest_of[key]

    def by_client(self, inode: int, at: int) -> list[list[Change]]:
        """The changes of one block, by client, in the order in which each made them."""
        key = inode, at
        if key not in self.over_block_by_client:
            of_client: dict[int, list[Change]] = defaultdict(list)
            for change in self.over(inode, at):
                of_client[change.client].append(change)
            self.over_block_by_client[key] = [sorted(mine, key=attrgetter("start")) for mine in of_client.values()]
        return self.over_block_by_client[key]

    def last_that_counts(self, changes: list[Change], look: Look) -> Change | None:
        """Of one client's changes, in order."""
        begun = bisect_left(changes, look.start, key=attrgetter("start"))
        return next((changes[i] for i in range(begun - 1, -1, -1) if self.counts(changes[i], look)), None)

    def overtaken(self, look: Look, at: int, change: Change | None) -> Change | None:
        """What came for sure after `change` (None: since the file is there) and before this look."""
        for other in self.latest(look, at):
            if other is not change and (change is None or change.before(other)):
                return other
        return None

    def zero_causes(self, look: Look, at: int) -> list[Change | None]:
        """Cuts, holes, and the making of the file (None), that may be why this block is zeros."""
        cuts = [c for c in self.over(look.inode, at) if c.zeroes and c.start < look.end]
        causes: list[Change | None] = [*cuts, None]
        return [cause for cause in causes if self.overtaken(look, at, cause) is None]

    def check_zeros(self, look: Look, at: int) -> None:
        causes = self.zero_causes(look, at)
        if not causes:
            cuts = [c for c in self.over(look.inode, at) if c.zeroes and c.start < look.end]
            came = self.overtaken(look, at, max(cuts, key=lambda cut: cut.start, default=None))
            self.wrong.append(f"{look}: block {at} is zeros, though there came {came}")
            return
        if any(cause is not None and (cause.end > look.start or cause.kind == "hole") for cause in causes):
            return
        for change in self.of_file[look.inode]:
            makes_holes = change.kind in ("cut", "write") and change.first > at
            if makes_holes and change.start < look.end and any(c is None or not change.before(c) for c in causes):
                return
        self.wrong.append(f"{look}: block {at} is zeros, and nothing made the file longer without writing there")

    # ---- sizes, names, order ----------------------------------------------------------------------------------------
    def check_size(self, look: Look) -> None:
        mine = [change for change in self.of_file[look.inode] if change.start < look.end]
        cuts = [change for change in mine if change.kind == "cut"]
        if look.size % BLOCK:
            self.wrong.append(f"{look}: the size is {look.size}, and nobody made one like that")
            return
        size = look.size // BLOCK
        if len(look.blocks) < size and not any(cut.end > look.start and cut.first < size for cut in cuts):
            self.wrong.append(f"{look}: {len(look.blocks)} blocks were read of {size}")
        if size and not any(self.makes(c, size, look) for c in mine):
            self.wrong.append(f"{look}: the size is {size} blocks, and no change made it so")
        for change in mine:
            if change.kind != "hole" and (change.kind != "append" or change.first >= 0):
                short = change.behind > size and self.counts(change, look)
                if short and not any(
                    cut.first < change.behind and not cut.before(change) and cut is not change for cut in reversed(cuts)
                ):
                    self.wrong.append(f"{look}: the size is {size} blocks, though there came {change}")
                    return

    def makes(self, change: Change, size: int, look: Look) -> bool:
        """The file may be so many blocks because of it: when it was done, or half-way."""
        if change.kind == "hole":
            return False
        half_way = change.kind != "cut" and change.first < size < change.behind and change.end > look.start
        return change.behind == size or half_way or (change.kind == "append" and change.first < 0)

    def check_names(self) -> None:
        for opened in self.history.opened:
            candidates = [p for p in self.history.placed if p.inode == opened.inode and p.start < opened.end]
            if not candidates:
                self.wrong.append(f"client {opened.client} opened file {opened.inode}, which never had the name")
                continue
            for place in candidates:
                over = [p for p in self.history.placed if p.start > place.end and p.end < opened.start]
                if over:
                    self.wrong.append(
                        f"client {opened.client} opened file {opened.inode} at {opened.start:.3f}, "
                        f"though file {over[-1].inode} was put in its place by {over[-1].end:.3f}"
                    )

    def check_going_back(self) -> None:
        seen: dict[tuple[int, int, int], Change] = {}
        for look in self.looks:
            for at, block in enumerate(look.blocks):
                key = look.client, look.inode, at
                last = seen.get(key)
                if last is not None and self.may_be_lost(last, look):
                    last = None
                if isinstance(block, Mark):
                    now = self.by_mark.get((block.client, block.sequence))
                    if now is None:
                        continue
                    if last is not None and now is not last and now.before(last):
                        self.wrong.append(f"{look}: block {at} went back to {now} after {last}")
                    seen[key] = now
                elif block is None and last is not None:
                    causes = [cause for cause in self.zero_causes(look, at) if cause is not None]
                    if not any(not cause.before(last) for cause in causes):
                        self.wrong.append(f"{look}: block {at} went back to zeros after {last}")

    def may_be_lost(self, change: Change, look: Look) -> bool:
        """Nobody had synced it, and its client, or a chunkserver that others read it from, failed since."""
        own = change.client == look.client
        failed = [died for client, died in self.history.deaths if client == change.client]
        failed += [] if own else self.history.failures
        return change.stable >= look.start and any(within(failure, change.start, look.end) for failure in failed)

    def check_lost_appends(self) -> None:
        """Fsynced, and nothing could have cut or covered it: then who looked afterwards has seen it."""
        for change in self.history.changes:
            if change.kind != "append" or change.first >= 0 or change.stable == inf:
                continue
            others = (c for c in self.of_file[change.inode] if c.kind != "append" and not c.before(change))
            looks = [look for look in self.looks if look.inode == change.inode and look.start > change.stable]
            if looks and not any(other.start < looks[0].end for other in others):
                self.wrong.append(f"{looks[0]}: {change} is nowhere")
