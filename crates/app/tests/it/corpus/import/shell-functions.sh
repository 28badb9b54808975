glm() {
  export ANTHROPIC_BASE_URL="https://gw.example"
  export ANTHROPIC_AUTH_TOKEN="sk-test-a"   # mine
  command claude "$@"
}
function two { ANTHROPIC_BASE_URL=https://two.example ANTHROPIC_API_KEY=sk-test-b \
  claude "$@"; }
