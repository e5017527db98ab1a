// Requests to the jobmanager's REST API. Paths are relative to the page, so that it works below any prefix of a proxy.

const TOKEN_KEY = "millrace-token";
const TIMEOUT_MS = 10_000;

/** The jobmanager answered with an error: its own words. */
export class ApiError extends Error {
  constructor(status, messages) {
    super(messages.join("\n"));
    this.status = status;
  }
}

/** No answer: the jobmanager is gone, too slow, or something else listens there. */
export class Unreachable extends Error {}

// The page lies beside the API ("/") or one below it ("/millrace/").
const isBelow = /\/millrace\/(index\.html)?$/.test(location.pathname);
let base = new URL(isBelow ? "../" : "./", location.href);

/** A prefix that itself ends in "/millrace/" looks like our own path: connect() finds out, before anything else is asked. */
export const isBaseUncertain = isBelow && location.pathname.indexOf("/millrace/") > 0;

/** The address of the API, as commands want it: host, port and prefix. */
export const address = () => (base.host + base.pathname).replace(/\/$/, "");

export function setToken(token) {
  if (token)
    sessionStorage.setItem(TOKEN_KEY, token);
  else
    sessionStorage.removeItem(TOKEN_KEY);
}

export const hasToken = () => sessionStorage.getItem(TOKEN_KEY) !== null;

async function answer(method, path, body) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (token !== null)
    headers.Authorization = `Bearer ${token}`;
  if (body !== undefined)
    headers["Content-Type"] = "application/json";
  try {
    const response = await fetch(new URL(path, base), {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return { response, text: await response.text() };
  } catch (err) {
    throw new Unreachable(err.name === "TimeoutError" ? `no answer within ${TIMEOUT_MS / 1000} s` : "no connection");
  }
}

function errorsOf(text, response) {
  try {
    const errors = JSON.parse(text).errors;
    if (Array.isArray(errors))
      return errors.map(String);
  } catch { /* not the jobmanager's form: say what came */ }
  return [text.slice(0, 500) || `HTTP status ${response.status}`];
}

async function checked(method, path, body) {
  const result = await answer(method, path, body);
  const { response } = result;
  // A proxy that cannot reach the jobmanager speaks for it.
  if (response.status >= 502 && response.status <= 504)
    throw new Unreachable(`HTTP status ${response.status} from the proxy before it`);
  if (!response.ok)
    throw new ApiError(response.status, errorsOf(result.text, response));
  return result.text;
}

async function request(method, path, body) {
  const json = await checked(method, path, body);
  try {
    return json === "" ? null : JSON.parse(json);
  } catch {
    throw new Unreachable(`what answers at ${address()} is not a jobmanager`);
  }
}

/** A log or another file that is no JSON. */
export const text = (path) => checked("GET", path);
export const get = (path) => request("GET", path);
export const send = (method, path, body) => request(method, path, body);

/** The jobmanager's /config, from where it is found. */
export async function connect() {
  try {
    return await get("config");
  } catch (err) {
    const isElsewhere = err instanceof ApiError ? err.status === 404 : /not a jobmanager/.test(err.message);
    if (!isBelow || !isElsewhere)
      throw err;
    base = new URL("./", location.href);
    return get("config");
  }
}
