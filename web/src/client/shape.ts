/**
 * Checks of unknown JSON against a shape, at the edge, so that nothing inside has to doubt its types.
 *
 * Keys that a shape does not name are left out: a newer server may say more. A value of the wrong kind raises
 * ShapeError with the path to it.
 */

export class ShapeError extends Error {
  override readonly name = "ShapeError";
}

/** Reads one value; `path` is where it stands, for the error. */
export type Shape<T> = (value: unknown, path: string) => T;

function describe(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : typeof value;
}

function refuse(expected: string, value: unknown, path: string): never {
  throw new ShapeError(`Expected ${expected} at ${path}; found ${value === undefined ? "nothing" : describe(value)}.`);
}

export const text: Shape<string> = (value, path) => (typeof value === "string" ? value : refuse("text", value, path));

export const flag: Shape<boolean> = (value, path) =>
  typeof value === "boolean" ? value : refuse("true or false", value, path);

export const number: Shape<number> = (value, path) =>
  typeof value === "number" && Number.isFinite(value) ? value : refuse("a number", value, path);

export const count: Shape<number> = (value, path) =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : refuse("a whole number", value, path);

export function oneOf<const T extends string>(...allowed: readonly T[]): Shape<T> {
  return (value, path) =>
    allowed.find((candidate) => candidate === value) ?? refuse(`one of ${allowed.join(", ")}`, value, path);
}

export function nullable<T>(shape: Shape<T>): Shape<T | null> {
  return (value, path) => (value === null || value === undefined ? null : shape(value, path));
}

export function optional<T>(shape: Shape<T>, fallback: T): Shape<T> {
  return (value, path) => (value === undefined ? fallback : shape(value, path));
}

export function list<T>(shape: Shape<T>): Shape<readonly T[]> {
  return (value, path) =>
    Array.isArray(value)
      ? value.map((item: unknown, index) => shape(item, `${path}[${index}]`))
      : refuse("a list", value, path);
}

export function record<T extends object>(fields: { readonly [K in keyof T]: Shape<T[K]> }): Shape<T> {
  const entries = Object.entries<Shape<unknown>>(fields);
  return (value, path) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return refuse("an object", value, path);
    const given = value as Record<string, unknown>;
    return Object.fromEntries(entries.map(([key, shape]) => [key, shape(given[key], `${path}.${key}`)])) as T;
  };
}
