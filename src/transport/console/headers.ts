/** Headers of every answer below /ui/: nothing from elsewhere, nothing inline, no frame, no trace of where one came from. */

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join("; ");

export const securityHeaders = {
  "content-security-policy": policy,
  "x-content-type-options": "nosniff",
  // With "no-referrer" browsers send forms with the origin "null", which no check of origins can let in.
  "referrer-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
} as const;

/** Headers of a page: what it shows is of now and for this reader only. */
export const pageHeaders = {
  ...securityHeaders,
  "content-type": "text/html; charset=utf-8",
  "cache-control": "no-store",
} as const;
