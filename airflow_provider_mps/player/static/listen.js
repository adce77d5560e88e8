"use strict";

const element = (id) => document.getElementById(id);
const audio = document.querySelector("audio");

const ids = new URLSearchParams(location.search);
// Airflow does not replace {MAP_INDEX} if the task is not mapped.
if (!/^\d+$/.test(ids.get("map_index") ?? "")) ids.set("map_index", "-1");
const makeUrl = (what) => `${what}?${ids}`;

async function requestJson(what) {
  const response = await fetch(makeUrl(what), { credentials: "same-origin" });
  if (response.ok) return response.json();
  if (response.status === 401) throw new Error("Your Airflow session has ended. Sign in again to listen.");
  if (response.status === 403) throw new Error("You do not have permission to read this DAG.");
  const { detail } = await response.json().catch(() => ({}));
  throw new Error(typeof detail === "string" ? detail : `Airflow responded with HTTP ${response.status}. The log of its API server may say why.`);
}

function formatTime(seconds) {
  const exactly = `${Number(seconds.toFixed(3))} s`;
  if (seconds < 60) return exactly;
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)} (${exactly})`;
}

function formatSize(bytes) {
  const exactly = `${bytes.toLocaleString("en")} bytes`;
  if (bytes < 1e6) return exactly;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB (${exactly})` : `${(bytes / 1e9).toFixed(2)} GB (${exactly})`;
}

function drawWaveform(bars) {
  const canvas = document.querySelector("canvas");
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const pen = canvas.getContext("2d");
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--wave");
  const step = canvas.width / bars.length;
  const peak = Math.max(...bars, 0.01);
  bars.forEach((bar, index) => {
    const height = Math.max(scale, (bar / peak) * canvas.height);
    pen.fillRect(index * step, (canvas.height - height) / 2, Math.max(1, step * 0.7), height);
  });
  canvas.dataset.drawn = bars.length;
}

function showPlayhead() {
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

function showMessage(text) {
  element("message").textContent = text;
  element("message").hidden = !text;
}

async function show() {
  try {
    // The view is in a frame of Airflow's page, which may be dark.
    document.documentElement.classList.toggle("dark", parent.document.documentElement.classList.contains("dark"));
  } catch {
    // It is not in a frame.
  }
  const details = await requestJson("details");
  element("name").textContent = details.name;
  element("VoiceId").textContent = details.VoiceId ?? "unknown";
  element("duration").textContent = details.duration === null ? "unknown" : formatTime(details.duration);
  element("size").textContent = formatSize(details.size);
  element("path").textContent = details.path;
  element("download").href = `${makeUrl("audio")}&download=true`;
  element("download").download = details.name;
  audio.addEventListener("error", () => showMessage("The audio cannot be played. Its download was interrupted, or this browser does not support its format."));
  audio.src = makeUrl("audio");
  element("player").hidden = false;
  showMessage("");
  showPlayhead();
  try {
    drawWaveform((await requestJson("waveform")).bars);
  } catch {
    element("waveform").hidden = true;
  }
}

show().catch((error) => showMessage(error.message));
