// Waiting for conditions: of what is asked for again and again, and of what events change. Both fail
// with what was seen.

const shown = (seen) => {
  const text = seen instanceof Error ? String(seen) : JSON.stringify(seen);
  return text === undefined ? "nothing" : text.length > 2000 ? `${text.slice(0, 1000)} ... ${text.slice(-1000)}` : text;
};

// What check() gives once it is something.
export async function until(what, check, seconds = 120) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${seconds} s for ${what}; last seen: ${shown(value)}`);
    await new Promise((r) => setTimeout(r, 50));
  }
}

// State that events change: wait(holds) until holds(state). Who changes it calls changed(), and
// over(why) where nothing will change it any more: then a wait that does not hold fails at once.
export function changing(state) {
  const waits = new Set();
  let ended = null;
  const look = () => { for (const w of waits) w(); };
  return {
    changed: look,
    over(why) { ended ??= why; look(); },
    wait: (holds, seconds = 120) => new Promise((done, failed) => {
      const fail = (why) => failed(new Error(`${why}, and never ${holds}; seen: ${shown(state)}`));
      const timer = setTimeout(() => end(() => fail(`waited ${seconds} s`)), seconds * 1000);
      const end = (how) => { clearTimeout(timer); waits.delete(check); how(); };
      const check = () => {
        if (holds(state)) end(done);
        else if (ended) end(() => fail(ended));
      };
      waits.add(check);
      check();
    }),
  };
}

// Words of bash that end when something listens on this port inside, and fail after some minutes. No program is
// started again and again: by emulation that takes more of the processor than what is waited for.
export const listening = (port) => `(exec 9<> <(:); for ((i = 0; i < 3000; i++)); do : </dev/tcp/127.0.0.1/${port} && exit; \
read -t 0.05 -u 9; done; exit 1) 2>/dev/null`;
