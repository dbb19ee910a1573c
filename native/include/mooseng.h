/* The C boundary of MooseNG. Made by native/include/maker; do not edit. */

#ifndef MOOSENG_H
#define MOOSENG_H

#include <stdint.h>

// Rises with every change of a declaration below.
#define MNG_ABI_VERSION 4

// What `mng_start` can make.
#define MNG_ROLE_MASTER 1

#define MNG_ROLE_CHUNKSERVER 2

#define MNG_ROLE_MOUNT 3

#define MNG_ROLE_CLIENT 4

#define MNG_ROLE_STORE 5

#define MNG_ROLE_NAME_SPACE 6

#define MNG_ROLE_LINK 7

// Methods of a name space for `mng_call`: a Command changes it, a NameRequest asks it.
#define MNG_METHOD_APPLY 1

#define MNG_METHOD_QUERY 2

// Bytes made by the library. Zero it before the call, hand it to `mng_reply_free` after reading.
typedef struct MngReply {
  uint8_t *data;
  uint64_t len;
} MngReply;

// Fill `target` with up to `count` numbers: ABI version, size of MngReply, size of a pointer. Returns how many there
// are. To be called first: it also marks this process as the library's home.
//
// # Safety
// `target` is writable for `count` numbers.
int64_t mng_abi(uint32_t *target,
                uint64_t count);

// Copy this thread's last error, a JSON object with errno, kind, message, leader and failed_servers, into `target`.
// Returns its length, of which `capacity` bytes were copied; 0 when nothing failed yet. Works after a fork too.
//
// # Safety
// `target` is writable for `capacity` bytes.
int64_t mng_last_error(uint8_t *target,
                       uint64_t capacity);

// Wait on, at most half a second, for the call of this thread that returned -EINPROGRESS. Returns what that call
// would have, or -EINPROGRESS again. Until then its spans stay the library's; any other waiting call of this thread
// gives the result up.
int64_t mng_wait(void);

// Panic inside: the test that it does not cross. Returns -ENOTRECOVERABLE.
int64_t mng_test_panic(void);

// Stay away `duration_ms` milliseconds in the runtime: the test of waiting in slices. Returns `duration_ms`.
int64_t mng_test_sleep(uint64_t duration_ms);

// CRC-32C of a span, as a number below 2^32.
//
// # Safety
// `data` is readable for `len` bytes.
int64_t mng_crc32c(const uint8_t *data, uint64_t len);

// CRC-32C of two spans behind each other, from the CRCs of both and the length of the second.
int64_t mng_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b);

// A zeroed buffer of `len` bytes whose address is a multiple of 4096; null when it cannot be had.
uint8_t *mng_buffer_take(uint64_t len);

// Give a buffer back. Returns its length; -EINVAL for an address that `mng_buffer_take` did not give.
int64_t mng_buffer_release(uint8_t *start);

// Free what a call put into `reply`, and zero it.
//
// # Safety
// `reply` is null, zeroed, or as a call of this library left it.
void mng_reply_free(struct MngReply *reply);

// Start the native log on standard error: `{"format": "json"|"console", "level": "info"}`. Once per process.
//
// # Safety
// `config` is readable for `len` bytes.
int64_t mng_log_start(const uint8_t *config,
                      uint64_t len);

// What the library says of itself, as JSON: `{"methods": {name: number}, "operations": [{"name", "number", "kind",
// "once", "level"}, ...], "limits": {role: {setting: {"least", "most", "default"}}}}`.
//
// # Safety
// `reply` is writable.
int64_t mng_facts(struct MngReply *reply);

// Refuse what `mng_start` would refuse of the `config` of a node or a client alone; opens nothing. Returns 0.
//
// # Safety
// `config` is readable for `len` bytes.
int64_t mng_check(uint32_t role,
                  const uint8_t *config,
                  uint64_t len);

// Start a node, a client, a chunk store or a name space: `role` is one of MNG_ROLE_*, `config` JSON. Returns its
// handle once it works.
//
// # Safety
// `config` is readable for `len` bytes.
int64_t mng_start(uint32_t role,
                  const uint8_t *config,
                  uint64_t len);

// End what `handle` stands for: nodes stop, clients flush, mounts unmount. The handle is gone even when this fails.
int64_t mng_close(uint64_t handle,
                  uint64_t timeout_ms);

// Status and metrics as JSON: `{"status": {...}, "metrics": [[name, [[label, value], ...], number], ...]}`.
//
// # Safety
// `reply` is writable.
int64_t mng_status(uint64_t handle,
                   struct MngReply *reply);

// One request, encoded, to what `handle` stands for. Masters and links: any method of crate wire. Clients: Name, with `creds`
// and `op` set. Name spaces: MNG_METHOD_*.
//
// # Safety
// `message` is readable for `len` bytes, `reply` is writable.
int64_t mng_call(uint64_t handle,
                 uint16_t method,
                 const uint8_t *message,
                 uint64_t len,
                 struct MngReply *reply);

// Open or create a file of a client: `request` is a NameRequest with `creds` and Open or Create, `flags` are those of
// open(2). Returns the file's number; `reply` gets its Attr.
//
// # Safety
// `request` is readable for `len` bytes, `reply` is writable.
int64_t mng_file_open(uint64_t client,
                      const uint8_t *request,
                      uint64_t len,
                      int32_t flags,
                      struct MngReply *reply);

// Fill `target` from byte `offset`. Returns the bytes read: 0 at the end of the file, else short only there and
// beyond a few MiB.
//
// # Safety
// `target` is writable for `len` bytes.
int64_t mng_file_read(uint64_t client,
                      uint64_t file,
                      uint64_t offset,
                      uint8_t *target,
                      uint64_t len);

// Write `data` at byte `offset`. Returns the bytes taken, fewer than `len` only beyond a few MiB.
//
// # Safety
// `data` is readable for `len` bytes.
int64_t mng_file_write(uint64_t client,
                       uint64_t file,
                       uint64_t offset,
                       const uint8_t *data,
                       uint64_t len);

// Write all of `data`, at most 1 MiB, at the end of the file, whoever else appends. Returns where it begins.
//
// # Safety
// `data` is readable for `len` bytes.
int64_t mng_file_append(uint64_t client,
                        uint64_t file,
                        const uint8_t *data,
                        uint64_t len);

// Make everything written to the file safe: on stable storage on all copies, and its length committed.
int64_t mng_file_sync(uint64_t client,
                      uint64_t file);

// Close the file, making everything written safe first. It is closed even when that fails.
int64_t mng_file_close(uint64_t client, uint64_t file);

// Write one span of a chunk, creating the chunk when it is missing. Returns the bytes the chunk then holds.
//
// # Safety
// `data` is readable for `len` bytes.
int64_t mng_store_write(uint64_t handle,
                        uint64_t chunk,
                        uint32_t version,
                        uint32_t offset,
                        const uint8_t *data,
                        uint64_t len);

// Fill `target` from byte `offset` of a chunk; every block touched was verified. Returns `len`.
//
// # Safety
// `target` is writable for `len` bytes.
int64_t mng_store_read(uint64_t handle,
                       uint64_t chunk,
                       uint32_t version,
                       uint32_t offset,
                       uint8_t *target,
                       uint64_t len);

// Make everything written to a chunk stable. Returns the bytes the chunk holds.
int64_t mng_store_sync(uint64_t handle, uint64_t chunk, uint32_t version);

// The yardstick for the store: nanoseconds to write and sync `data` in `directory` without any of its care, past the
// page cache when `direct` is not 0.
//
// # Safety
// `directory` is readable for `directory_len` bytes, `data` for `len`.
int64_t mng_plain_loop(const uint8_t *directory,
                       uint64_t directory_len,
                       const uint8_t *data,
                       uint64_t len,
                       uint32_t direct);

#endif  /* MOOSENG_H */
