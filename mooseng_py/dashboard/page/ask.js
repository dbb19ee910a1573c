// One question to the dashboard.

/** The JSON of an answer. Throws an Error with the dashboard's sentence and `status` (none when nobody answered). */
export async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(12000) });
  const body = await answer.json().catch(() => ({ error: `the answer ${answer.status} is not JSON` }));
  if (!answer.ok) throw Object.assign(new Error(body.error ?? `answer ${answer.status}`), { status: answer.status });
  return body;
}
