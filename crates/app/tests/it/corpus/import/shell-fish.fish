set -gx ANTHROPIC_BASE_URL https://gw.example
set -gx ANTHROPIC_AUTH_TOKEN 'sk-test-a'
function kimi --wraps claude
    set -lx ANTHROPIC_BASE_URL https://api.moonshot.ai/anthropic
    set -lx ANTHROPIC_AUTH_TOKEN (cat /nowhere/kimi)
    set -lx ANTHROPIC_MODEL kimi-k2
    claude $argv
end
alias two 'ANTHROPIC_BASE_URL=https://two.example ANTHROPIC_API_KEY=sk-test-b claude'
alias three 'ANTHROPIC_BASE_URL=https://three.example claude'
