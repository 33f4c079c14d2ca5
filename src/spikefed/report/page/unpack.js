// The drawing library stands in the page deflated, in the base 85 of RFC 1924 with a comma for its "<".
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";

function bytesOf(text, size) {
  const value = new Uint8Array(128);
  [...DIGITS].forEach((digit, place) => { value[digit.charCodeAt(0)] = place; });
  const bytes = new DataView(new ArrayBuffer((text.length / 5) * 4));
  for (let from = 0, to = 0; from < text.length; from += 5, to += 4) {
    let number = 0;
    for (let i = 0; i < 5; i += 1) number = number * 85 + value[text.charCodeAt(from + i)];
    bytes.setUint32(to, number);
  }
  return new Uint8Array(bytes.buffer, 0, size);
}

// Whether figures can be drawn: the library is there now, or the page says why not.
async function unpackLibrary() {
  const source = $("#plotly");
  try {
    const text = source.textContent;
    const deflated = bytesOf(text.slice(text.indexOf("*/") + 2).trim(), Number(source.dataset.bytes));
    const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
    const script = el("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    return typeof Plotly !== "undefined";
  } catch {
    return false;
  }
}
