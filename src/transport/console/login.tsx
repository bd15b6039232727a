/** @jsxImportSource #console */
/** Where somebody without a session shows the admin token. */
import { Button } from "./components/button";
import { Field, Form, TextInput } from "./components/form";
import type { Page, PageContent, PageRequest } from "./page";

export const loginPath = "/login";

/** The page with its form, after a wrong token with what was wrong. */
export function loginPage(request: PageRequest, to: string, problem?: string): PageContent {
  return {
    title: "Sign in",
    status: problem === undefined ? 200 : 401,
    body: (
      <Form request={request} action={loginPath} class="narrow">
        <input type="hidden" name="to" value={to} />
        <Field
          label="Admin token"
          for="token"
          help="The line in the file that the server was started with: --admin-token-file."
          problem={problem}
        >
          <TextInput
            id="token"
            name="token"
            type="password"
            mono
            width={36}
            autocomplete="current-password"
            required
            autofocus
            invalid={problem !== undefined}
          />
        </Field>
        <Button kind="primary">Sign in</Button>
      </Form>
    ),
  };
}

export const login: Page = {
  path: loginPath,
  section: "overview",
  render: (request) => loginPage(request, request.query.text("to") ?? "/ui/"),
};
