/** Below this path lies every operation. */
export const basePath = "/api/v1";
