// Data come as classic scripts, which a browser also loads from file://. Each calls explorer.receive with its parts.
"use strict";
{
  const asked = new Map();

  explorer.inflate = async (text) => {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };

  explorer.receive = async (name, parts) => {
    const waiting = asked.get(name);
    try {
      const value = JSON.parse(new TextDecoder().decode(await explorer.inflate(parts.json)));
      for (const part of Object.keys(parts)) {
        if (part !== "json") value[part] = await explorer.inflate(parts[part]);
      }
      waiting.resolve(value);
    } catch (error) {
      waiting.reject(error);
    }
  };

  explorer.load = (name) => {
    if (!asked.has(name)) {
      const waiting = {};
      waiting.promise = new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject }));
      asked.set(name, waiting);
      const script = document.createElement("script");
      script.src = `${name}.js`;
      script.onerror = () => waiting.reject(new Error(`the file ${name}.js is missing`));
      document.head.append(script);
    }
    return asked.get(name).promise;
  };

  // Four bits a value, the first in the high half; levels of the square root.
  explorer.fourBits = (packed, place) => {
    const level = place % 2 ? packed[place >> 1] & 15 : packed[place >> 1] >> 4;
    return (level / 15) ** 2;
  };
}
