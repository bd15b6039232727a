/** The bugs that are planted to see whether the simulator finds them; section and name as in the literature. */
import type { PlantedBug } from "./planted";

export const plantedBugs: readonly PlantedBug[] = [];
