/** The first page: how the cluster is, and why. */
import { verdictTone, State } from "../components/state";
import type { Page } from "../page";

export const overview: Page = {
  path: "/",
  section: "overview",
  live: true,
  render({ services }) {
    const { verdict } = services.status.view();
    return {
      title: "Overview",
      body: (
        <p>
          <State tone={verdictTone(verdict.kind)}>{verdict.word}</State> {verdict.sentence}
        </p>
      ),
    };
  },
};
