"""The page's modules by themselves, in the browser: the layout of random graphs, texts for numbers, what drawing again keeps."""

RANDOM_GRAPHS = """
const [seed, rounds] = arguments;
const { BOX_HEIGHT, BOX_WIDTH, layout } = await import(new URL('graph_layout.js', location.href));
let state = seed;
const random = (limit) => { state = (state * 48271) % 2147483647; return state % limit; };
for (let round = 0; round < rounds; round++) {
  const count = 1 + random(24);
  // As in a plan: sinks first, inputs are earlier operators.
  const nodes = Array.from({length: count}, (_, i) => ({ id: `n${i}`, inputs: Array.from({length: random(4)}, () => i > 0 && random(4) > 0
    ? { id: `n${random(i)}`, ship_strategy: 'HASH' } : null).filter(Boolean) })).reverse();
  for (const isDown of [false, true]) {
    const { width, height, boxes, edges } = layout(nodes, isDown);
    const fail = (why) => { throw new Error(`round ${round}, ${isDown ? 'down' : 'across'}: ${why}: ${JSON.stringify(nodes)}`); };
    if (boxes.length !== count || edges.length !== nodes.flatMap((node) => node.inputs).length)
      fail('something is missing');
    for (const a of boxes) {
      if (a.x < -0.5 || a.y < -0.5 || a.x + BOX_WIDTH > width + 0.5 || a.y + BOX_HEIGHT > height + 0.5)
        fail(`${a.id} lies outside`);
      for (const b of boxes) {
        if (a !== b && Math.abs(a.x - b.x) < BOX_WIDTH && Math.abs(a.y - b.y) < BOX_HEIGHT)
          fail(`${a.id} covers ${b.id}`);
      }
    }
    for (const { from, to, points } of edges) {
      const along = points.map(([x, y]) => isDown ? y : x);
      if (along.some((at, i) => i > 0 && at <= along[i - 1]))
        fail(`the edge ${from} to ${to} goes back`);
      // Where an edge passes a layer, it passes beside the boxes.
      for (let i = 1; i + 1 < points.length; i += 2) {
        const [x, y] = points[i];
        if (boxes.some((box) => isDown ? Math.abs(box.y - y) < 1 && x > box.x && x < box.x + BOX_WIDTH
                                       : Math.abs(box.x - x) < 1 && y > box.y && y < box.y + BOX_HEIGHT))
          fail(`the edge ${from} to ${to} goes through a box`);
      }
    }
  }
}
return rounds;
"""

TEXTS = """
const { bytes, count, duration, eventTime, percent, rate, watermark } = await import(new URL('format.js', location.href));
const now = 1700000000000;
const mark = (value, pace, still) => {
  const { text, detail } = watermark(value, now, pace, still);
  return [text, detail].filter(Boolean).join(', ');
};
return [
  count(5559), count(12345678), count(NaN), rate(0), rate(0.04), rate(2.54), rate(1000), rate(123456), bytes(925), bytes(1536), bytes(-1),
  duration(7), duration(1000), duration(3250), duration(61000), duration(3600000), duration(100000000), duration(-1),
  percent(0), percent(0.004), percent(0.556), percent(1.2), eventTime(13689),
  mark(now - 3200, 1, 0), mark(now + 65000, 1, 0), mark(13689, 2.71, 0), mark(13689, null, 0), mark(13689, 0, 12000),
  mark(-9223372036854775808, null, 0), mark(9223372036854775807, null, 0), mark(undefined, null, 0), mark(now - 60000, 0, 30000),
].map((text) => text.replaceAll('\\u202f', ' '));
"""

WANTED_TEXTS = [
    "5,559", "12.3 M", "–", "0", "<0.1", "2.5", "1,000", "123 k", "925 B", "1.5 KiB", "–",
    "7 ms", "1 s", "3.3 s", "1 min 1 s", "1 h", "1 d 3 h", "–",
    "0 %", "<1 %", "56 %", "100 %", "1970-01-01 00:00:13",
    "watermark lag 3.2 s", "watermark 1 min 5 s ahead", "watermark 1970-01-01 00:00:13, advances 2.7 s per second", "watermark 1970-01-01 00:00:13",
    "watermark 1970-01-01 00:00:13, stands still for 12 s",
    "no watermark yet", "watermark: end of data", "no watermark", "watermark lag 1 min, stands still for 30 s",
]

DRAWING = """
const { h, show } = await import(new URL('dom.js', location.href));
const box = document.createElement('div');
document.body.append(box);
const rows = (names, extra) => names.map((name) => h('li', {'data-key': name}, h('input', {'aria-label': name}), name,
  extra ? h('b', null, extra) : null));
show(box, rows(['a', 'b', 'c']));
const [a, b, c] = box.children;
b.firstChild.value = 'typed';
show(box, rows(['c', 'b', 'd'], 'x'));
const seen = [];
seen.push(box.textContent, box.children[0] === c, box.children[1] === b, b.firstChild.value, a.isConnected);
show(box, h('details', {open: true}, h('summary', null, 'one')));
box.firstChild.open = false;
show(box, h('details', {open: true}, h('summary', null, 'two')));
seen.push(box.firstChild.open, box.textContent);
show(box, '<img src=x onerror=alert(1)>', h('p', {title: '"><script>'}, '<b>&amp;</b>'));
seen.push(box.querySelectorAll('img, b, script').length, box.textContent);
box.remove();
return seen;
"""


def open_page(env):
    cluster = env.cluster(taskmanagers=0)
    env.browser.open(f"http://127.0.0.1:{cluster.rest_port}/")
    env.browser.wait(lambda: "No jobs yet" in env.browser.text(), 10, "the page")
    return env.browser


def script(browser, body, *arguments):
    return browser.script(f"return (async function () {{ {body} }}).apply(null, arguments)", *arguments)


def test_layout(env):
    assert script(open_page(env), RANDOM_GRAPHS, 20260101, 300) == 300


def test_texts(env):
    found = script(open_page(env), TEXTS)
    assert found == WANTED_TEXTS, [pair for pair in zip(found, WANTED_TEXTS) if pair[0] != pair[1]]


def test_drawing(env):
    assert script(open_page(env), DRAWING) == ["cxbxdx", True, True, "typed", False, False, "two", 0, "<img src=x onerror=alert(1)><b>&amp;</b>"]
