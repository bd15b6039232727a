/**
 * Screenshots of every page of the console in its states, to be looked at:
 *
 *     bun test/shots/run.ts DIRECTORY [PART-OF-A-NAME...]
 *
 * Each state is NAME.WIDTH.THEME.png; names begin with the scene that they are from. The README's pictures:
 *
 *     bun test/shots/run.ts web/docs/images readme
 */
import { Camera } from "./camera";
import { TestBrowser } from "../console/browser";
import { readme, scenes } from "./scenes";

const [directory = "shots", ...only] = process.argv.slice(2);
const browser = await TestBrowser.launch();
const camera = new Camera(browser, directory, only);
let failed = 0;
const wanted = only.join() === "readme" ? { readme } : scenes;
for (const [name, scene] of Object.entries(wanted)) {
  if (only.length > 0 && !only.some((part) => part.startsWith(name) || name.startsWith(part))) continue;
  try {
    await scene(camera);
  } catch (error) {
    failed++;
    console.error(`${name}: ${error instanceof Error ? error.stack : String(error)}`);
  }
  console.log(`${name}: ${camera.taken} shots so far`);
}
await browser.close();
for (const one of [...camera.sideways, ...browser.incidents.found]) console.log(one);
process.exit(failed);
