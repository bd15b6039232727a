/** `keelson bench` without the rest of the executable. */
import { runBench } from "../../src/command/bench/bench";

process.exit(await runBench(process.argv.slice(2)));
