// The explorer: draws the operations of the document, and sends what one fills in.
"use strict";

/** Makes an element; children are elements or text, never markup. */
function element(name, properties, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties ?? {});
  made.append(...children);
  return made;
}

function encodePath(name, value, parameter) {
  const encoded = encodeURIComponent(value);
  return parameter["x-takes-slashes"] ? encoded.replaceAll("%2F", "/") : encoded;
}

function requestOf(method, path, fields, body) {
  let target = path;
  const query = new URLSearchParams();
  const headers = {};
  const token = document.getElementById("token").value.trim();
  if (token !== "") headers.authorization = `Bearer ${token}`;
  for (const { parameter, input } of fields) {
    const value = input.value;
    if (parameter.in === "path")
      target = target.replace(`{${parameter.name}}`, encodePath(parameter.name, value, parameter));
    else if (value === "") continue;
    else if (parameter.in === "query") query.set(parameter.name, value);
    else headers[parameter.name] = value;
  }
  if (body !== undefined) headers["content-type"] = body.type;
  const text = query.toString();
  return {
    target: text === "" ? target : `${target}?${text}`,
    init: { method, headers, ...(body === undefined ? {} : { body: body.input.value }) },
  };
}

/** Shows a response as it comes: streams have no end of their own. */
async function show(output, request, stop) {
  output.textContent = `${request.init.method} ${request.target}\n…`;
  const response = await fetch(request.target, { ...request.init, signal: stop.signal });
  let text = `${response.status} ${response.statusText}\n`;
  for (const [name, value] of response.headers) text += `${name}: ${value}\n`;
  text += "\n";
  output.textContent = text;
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const piece = await reader?.read();
    if (piece === undefined || piece.done) return;
    text = (text + piece.value).slice(-200000);
    output.textContent = text;
  }
}

function parametersTable(parameters, fields) {
  const rows = parameters.map((parameter) => {
    const input = element("input", {
      className: "input mono",
      value: parameter.in === "path" ? (parameter.example ?? "") : "",
    });
    input.placeholder = parameter.example ?? "";
    input.setAttribute("aria-label", parameter.name);
    fields.push({ parameter, input });
    return element(
      "tr",
      {},
      element("td", {}, element("code", {}, parameter.name), element("small", {}, parameter.in)),
      element("td", {}, input),
      element("td", {}, parameter.description ?? ""),
    );
  });
  return element("table", {}, element("tbody", {}, ...rows));
}

function bodyOf(operation) {
  const content = operation.requestBody?.content;
  if (content === undefined) return undefined;
  const type = Object.keys(content)[0];
  const example = content[type].example;
  const input = element("textarea", {
    className: "input mono",
    value: example === undefined ? "" : JSON.stringify(example, undefined, 2),
  });
  input.setAttribute("aria-label", "body");
  return { type, input };
}

function operationCard(path, method, operation) {
  const verb = method.toUpperCase();
  const fields = [];
  const body = bodyOf(operation);
  const output = element("pre", { className: "answer", hidden: true });
  output.tabIndex = 0;
  const send = element("button", { type: "button", className: "button primary" }, `Send ${verb}`);
  const end = element("button", { type: "button", className: "button", hidden: true }, "Stop");
  send.addEventListener("click", async () => {
    const stop = new AbortController();
    output.hidden = false;
    end.hidden = false;
    end.addEventListener("click", () => stop.abort(), { once: true });
    try {
      await show(output, requestOf(verb, path, fields, body), stop);
    } catch (error) {
      output.textContent += `\n${error}`;
    }
    end.hidden = true;
  });
  const answers = Object.entries(operation.responses).map(([status, answer]) =>
    element("tr", {}, element("td", {}, element("code", {}, status)), element("td", {}, answer.description)),
  );
  const content = element("div", {}, element("p", {}, operation.description ?? ""));
  if ((operation.parameters ?? []).length > 0) content.append(parametersTable(operation.parameters, fields));
  if (body !== undefined)
    content.append(
      element(
        "div",
        { className: "field" },
        element("p", { className: "label" }, `Body, ${body.type}`),
        body.input,
      ),
    );
  content.append(
    element("div", { className: "actions" }, send, end),
    output,
    element(
      "details",
      { className: "answers" },
      element("summary", {}, "Answers"),
      element("div", {}, element("table", {}, element("tbody", {}, ...answers))),
    ),
  );
  const card = element(
    "details",
    { className: "operation" },
    element(
      "summary",
      {},
      element("span", { className: `method ${verb}` }, verb),
      element("code", {}, path),
      element("span", { className: "about" }, operation.summary ?? ""),
    ),
    content,
  );
  card.dataset.words =
    `${verb} ${path} ${operation.summary ?? ""} ${operation.description ?? ""}`.toLowerCase();
  return card;
}

async function draw() {
  const place = document.getElementById("operations");
  const token = document.getElementById("token").value.trim();
  const response = await fetch(
    "/api/v1/openapi.json",
    token === "" ? {} : { headers: { authorization: `Bearer ${token}` } },
  );
  if (!response.ok) {
    place.replaceChildren(
      element("p", {}, `The document could not be read (${response.status}). Type the admin token above.`),
    );
    return;
  }
  const document_ = await response.json();
  const byTag = new Map(document_.tags.map((tag) => [tag.name, []]));
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      byTag.get(operation.tags[0])?.push(operationCard(path, method, operation));
    }
  }
  place.replaceChildren(
    ...document_.tags.map((tag) =>
      element(
        "section",
        {},
        element("h2", {}, tag.name),
        element("p", {}, tag.description),
        ...byTag.get(tag.name),
      ),
    ),
  );
}

document.getElementById("token").addEventListener("change", draw);
document.getElementById("find").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const part of document.querySelectorAll("main section")) {
    const cards = [...part.querySelectorAll(".operation")];
    for (const card of cards) card.hidden = !card.dataset.words.includes(wanted);
    part.hidden = cards.every((card) => card.hidden);
  }
});
draw();
