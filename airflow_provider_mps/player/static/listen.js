"use strict";

const element = (id) => document.getElementById(id);
const audio = document.querySelector("audio");

const ids = new URLSearchParams(location.search);
// Airflow leaves the name where a task is not mapped.
if (!/^\d+$/.test(ids.get("map_index") ?? "")) ids.set("map_index", "-1");
const address = (what) => `${what}?${ids}`;

async function ask(what) {
  const answer = await fetch(address(what), { credentials: "same-origin" });
  if (answer.ok) return answer.json();
  if (answer.status === 401) throw new Error("You are not signed in to Airflow any more. Sign in again to listen.");
  if (answer.status === 403) throw new Error("You may not read this DAG, so there is nothing to hear for you.");
  const { detail } = await answer.json().catch(() => ({}));
  throw new Error(typeof detail === "string" ? detail : `Airflow answered with HTTP ${answer.status}.`);
}

function asTime(seconds) {
  const exactly = `${Number(seconds.toFixed(3))} s`;
  if (seconds < 60) return exactly;
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)} (${exactly})`;
}

function asSize(bytes) {
  const exactly = `${bytes.toLocaleString("en")} bytes`;
  if (bytes < 1e6) return exactly;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB (${exactly})` : `${(bytes / 1e9).toFixed(2)} GB (${exactly})`;
}

function draw(bars) {
  const canvas = document.querySelector("canvas");
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const pen = canvas.getContext("2d");
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--wave");
  const step = canvas.width / bars.length;
  const loudest = Math.max(...bars, 0.01);
  bars.forEach((bar, index) => {
    const height = Math.max(scale, (bar / loudest) * canvas.height);
    pen.fillRect(index * step, (canvas.height - height) / 2, Math.max(1, step * 0.7), height);
  });
  canvas.dataset.drawn = bars.length;
}

function follow() {
  const waveform = element("waveform");
  const move = () => {
    element("playhead").style.left = audio.duration ? `${(100 * audio.currentTime) / audio.duration}%` : "0";
  };
  for (const event of ["timeupdate", "seeking", "loadedmetadata"]) audio.addEventListener(event, move);
  waveform.addEventListener("click", (click) => {
    const box = waveform.getBoundingClientRect();
    if (audio.duration) audio.currentTime = ((click.clientX - box.left) / box.width) * audio.duration;
  });
}

function say(text) {
  element("message").textContent = text;
  element("message").hidden = !text;
}

async function show() {
  try {
    // The view lies in a frame of Airflow's page, which may be dark.
    document.documentElement.classList.toggle("dark", parent.document.documentElement.classList.contains("dark"));
  } catch {
    // It is opened by itself.
  }
  const details = await ask("details");
  element("name").textContent = details.name;
  element("VoiceId").textContent = details.VoiceId ?? "not told";
  element("duration").textContent = details.duration === null ? "not told" : asTime(details.duration);
  element("size").textContent = asSize(details.size);
  element("path").textContent = details.path;
  element("download").href = `${address("audio")}&download=true`;
  element("download").download = details.name;
  audio.addEventListener("error", () => say("The audio cannot be played: it was not sent whole, or this browser does not know its kind."));
  audio.src = address("audio");
  element("player").hidden = false;
  say("");
  follow();
  try {
    draw((await ask("waveform")).bars);
  } catch {
    element("waveform").hidden = true;
  }
}

show().catch((error) => say(error.message));
