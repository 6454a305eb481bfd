import js from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["node_modules", "coverage", "test-results"] },
  js.configs.recommended,
  {
    files: ["**/*.ts", "**/*.tsx"],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      complexity: ["error", 10],
      "max-lines": ["error", 500],
      "max-lines-per-function": ["error", { max: 50, skipComments: true, skipBlankLines: true }],
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Text of a model never becomes markup." },
        { property: "outerHTML", message: "Text of a model never becomes markup." },
        { property: "insertAdjacentHTML", message: "Text of a model never becomes markup." },
      ],
      "no-restricted-syntax": [
        "error",
        {
          selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']",
          message: "Text of a model never becomes markup.",
        },
        {
          selector: "JSXAttribute[name.name='style']",
          message: "The page's policy forbids inline styles; use a class.",
        },
      ],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
    },
  },
  {
    files: ["src/client/**"],
    rules: {
      "no-restricted-imports": [
        "error",
        { patterns: [{ group: ["preact", "preact/*", "**/page/**"], message: "The library knows no framework." }] },
      ],
      "no-restricted-globals": [
        "error",
        ...["window", "document", "navigator", "localStorage", "setTimeout", "setInterval", "fetch", "WebSocket"].map(
          (name) => ({ name, message: "Injected by the Environment; see environment.ts." }),
        ),
      ],
    },
  },
  { files: ["src/client/browser.ts"], rules: { "no-restricted-globals": "off" } },
  {
    // A test suite is one function per subject, and fakes mirror foreign signatures.
    files: ["tests/**", "dev/**"],
    rules: {
      "max-lines-per-function": "off",
      complexity: ["error", 16],
      "@typescript-eslint/no-non-null-assertion": "off",
    },
  },
);
